# One image for every process of the farm; compose.yaml says which is which.
FROM python:3.11-slim-bookworm AS packages
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
COPY requirements/farm.lock /tmp/farm.lock
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement /tmp/farm.lock

FROM node:22-bookworm-slim AS pages
WORKDIR /pages
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY web web
RUN npm run --silent build

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data farm \
    && install -d -o farm -g farm -m 0700 /data
COPY --from=packages /venv /venv
WORKDIR /farm
COPY manage.py pyproject.toml ./
COPY farm farm
COPY slicing slicing
COPY printers printers
COPY jobs jobs
COPY templates templates
COPY static static
COPY --from=pages /pages/static/built static/built
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=farm.settings \
    FARM_DATA_DIR=/data FARM_STATIC_DIR=/static OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# the secrets that settings generate while files are collected are of no use: they go with their folder
RUN python -m compileall -q farm slicing printers jobs \
    && FARM_DATA_DIR=/tmp/collect python manage.py collectstatic --no-input && rm -r /tmp/collect
USER farm
VOLUME /data
EXPOSE 8000
CMD ["daphne", "-v", "0", "--no-server-name", "-b", "0.0.0.0", "-p", "8000", "farm.asgi:application"]
