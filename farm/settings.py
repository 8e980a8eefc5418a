"""All settings, in one file. Every value that a lab may want to change is read from the environment by farm.env;
the README's configuration table lists them."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
import structlog
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static
from django.urls import reverse_lazy

from farm import env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.data_dir()
VERSION = "0.1.0"

# -- the server
DEBUG = env.flag("FARM_DEBUG", False)
SECRET_KEY = env.secret("FARM_SECRET_KEY")
#: newest first; the others still open what they sealed (see printers.credentials)
FARM_FIELD_KEYS = env.secret("FARM_FIELD_KEYS", make=base64.urlsafe_b64encode(os.urandom(32)).decode()).split(",")
JWT_SIGNING_KEY = env.secret("FARM_JWT_KEY")
FARM_NAME = env.text("FARM_NAME", "Print Farm")
ALLOWED_HOSTS = env.words("FARM_HOSTS", "127.0.0.1,localhost,[::1]")
#: scheme and port included: a pattern without them would accept every port of that host
CSRF_TRUSTED_ORIGINS = env.words("FARM_ORIGINS")
#: reverse proxies in front; 0 = the caller's address is taken from the socket and X-Forwarded-For is ignored
FARM_PROXIES = env.number("FARM_PROXIES", 0, high=10)
FARM_TLS = env.flag("FARM_TLS", False)
if FARM_PROXIES and FARM_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = FARM_TLS
SECURE_HSTS_SECONDS = env.number("FARM_HSTS_SECONDS", 3600 if FARM_TLS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_NAME = "farm_session"
CSRF_COOKIE_NAME = "farm_csrf"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for subdomains: the lab's other hosts are not ours to decide
    "security.W021",  # preload likewise
    *([] if FARM_TLS else ["security.W004", "security.W008", "security.W012", "security.W016"]),  # FARM_TLS decides
]

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "csp",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "farm.apps.FarmConfig",
    "slicing.apps.SlicingConfig",
    "printers.apps.PrintersConfig",
    "jobs.apps.JobsConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "farm.csp.AdminCSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "farm.errorpages.FarmErrorMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "farm.urls"
ASGI_APPLICATION = "farm.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["django.templatetags.static"],
        },
    }
]
LANGUAGE_CODE = "en"
TIME_ZONE = env.text("FARM_TIME_ZONE", "UTC")
USE_TZ = True
CSRF_FAILURE_VIEW = "farm.errorpages.csrf_failure"

# -- data
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(
        env.text("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'farm.sqlite3'}", conn_max_age=0, conn_health_checks=True
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # WAL: readers never wait. FULL: a committed `starting` must survive power loss. IMMEDIATE: a transaction that will
    # write waits for the lock at its start, where waiting works, instead of failing in its middle.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
else:
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 0,
        "max_size": env.number("FARM_DB_POOL", 10, 1, 200),
    }

MEDIA_ROOT = DATA_DIR / "files"
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
FILE_UPLOAD_TEMP_DIR = str(DATA_DIR / "uploads")
(DATA_DIR / "uploads").mkdir(mode=0o700, exist_ok=True)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
#: bytes of one uploaded model or G-code file
FARM_MAX_UPLOAD = env.number("FARM_MAX_UPLOAD_MB", 200, 1, 4096) * 1_000_000
FARM_MAX_TRIANGLES = env.number("FARM_MAX_TRIANGLES", 2_000_000, 1000)

STATIC_URL = "static/"
STATIC_ROOT = env.text("FARM_STATIC_DIR") or str(DATA_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if not DEBUG and not env.flag("FARM_STATIC_PLAIN", False)
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG or env.flag("FARM_STATIC_PLAIN", False)


# -- Redis, Channels, Celery
def _redis_url() -> str:
    """``REDIS_URL``, else what `manage.py up` wrote for the Redis that it started, else the usual port."""
    written = DATA_DIR / "redis.url"
    return env.text("REDIS_URL") or (written.read_text().strip() if written.exists() else "redis://127.0.0.1:6379/0")


REDIS_URL = _redis_url()
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 2 * 3600, "socket_timeout": 10}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "transfer"
CELERY_TASK_ROUTES = {"jobs.slice": {"queue": "slice"}, "jobs.estimate": {"queue": "slice"}}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "jobs.sweep", "schedule": 5.0, "options": {"expires": 10}},
    "housekeeping": {"task": "jobs.housekeeping", "schedule": 600.0, "options": {"expires": 600}},
}
#: s; the longest slice
FARM_SLICE_TIMEOUT = env.number("FARM_SLICE_TIMEOUT", 900, 10, 7000)

# -- other slicing engines, if there are any
#: their programs; empty: looked for on the path
FARM_PRUSASLICER = env.text("FARM_PRUSASLICER")
FARM_CURAENGINE = env.text("FARM_CURAENGINE")
#: folder with Cura's fdmprinter.def.json; empty: looked for where Cura's desktop program keeps it
FARM_CURA_DEFINITIONS = env.text("FARM_CURA_DEFINITIONS")
#: bytes of memory that one of them may use
FARM_SLICE_MEMORY = env.number("FARM_SLICE_MEMORY_MB", 4096, 256, 2**20) * 2**20

# -- who may come in
AUTH_USER_MODEL = "farm.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "printers.access.GrantBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "printers"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "farm.errorpages.locked_out"
AXES_VERBOSE = False
AXES_CLIENT_IP_CALLABLE = "farm.throttles.caller_address"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",  # first: without it DRF answers 403, not 401
        "farm.incoming.BrowserSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_METADATA_CLASS": None,  # what OPTIONS would tell is in the schema
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["farm.incoming.StrictJson"],
    "DEFAULT_THROTTLE_CLASSES": ["farm.throttles.AnonymousThrottle", "farm.throttles.PersonThrottle"],
    "DEFAULT_FILTER_BACKENDS": ["farm.incoming.Filters"],
    "DEFAULT_PAGINATION_CLASS": "farm.paging.Pages",
    "DEFAULT_SCHEMA_CLASS": "farm.api.FarmSchema",
    "EXCEPTION_HANDLER": "farm.api.handle_exception",
    "NUM_PROXIES": FARM_PROXIES,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "COERCE_DECIMAL_TO_STRING": False,
}
#: (requests, seconds)
FARM_THROTTLE_ANONYMOUS = (env.number("FARM_THROTTLE_ANONYMOUS", 100, 1), 15 * 60)
FARM_THROTTLE_PERSON = (env.number("FARM_THROTTLE_PERSON", 600, 1), 60)
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "CHECK_REVOKE_TOKEN": True,  # a changed password ends every token
    "UPDATE_LAST_LOGIN": True,
    "SIGNING_KEY": JWT_SIGNING_KEY,
    "ISSUER": "print-farm",
    "AUDIENCE": "print-farm",
    "LEEWAY": 30,
    "TOKEN_OBTAIN_SERIALIZER": "farm.tokens.ObtainSerializer",
    "TOKEN_REFRESH_SERIALIZER": "farm.tokens.RefreshSerializer",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Print Farm",
    "DESCRIPTION": "Upload models, queue prints, watch and run printers.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "JobStatusEnum": "jobs.states.JobStatus",
        "PrintStatusEnum": "jobs.states.PrintStatus",
        "PrinterStatusEnum": "printers.drivers.base.PrinterStatus",
        "CommandStatusEnum": "printers.models.CommandStatus",
        "ProfileKindEnum": "slicing.models.ProfileRevision.Kind",
    },
}
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
#: the admin's own scripts (Alpine) evaluate expressions; only there
ADMIN_CSP = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}

# -- printers
#: printers may only live here; link-local (cloud metadata) is never allowed
FARM_PRINTER_NETWORKS = env.networks(
    "FARM_PRINTER_NETWORKS", "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,127.0.0.0/8,::1/128,fc00::/7"
)
#: printers one bridge process holds at most
FARM_BRIDGE_PRINTERS = env.number("FARM_BRIDGE_PRINTERS", 1000, 1, 2000)
#: every job of a person who is not staff waits for a yes
FARM_APPROVAL = env.flag("FARM_APPROVAL", False)


def _menu(title: str, **items: tuple[str, str]) -> dict[str, Any]:
    """``items``: model -> what people call its rows, and a Material symbol."""
    links = [
        {"title": name, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}
        for model, (name, icon) in items.items()
    ]
    return {"title": title, "separator": True, "items": links}


UNFOLD = {
    "SIDEBAR": {
        "navigation": [
            _menu(
                "Machines",
                printers_printer=("Printers", "print"),
                printers_pool=("Pools", "workspaces"),
                printers_grant=("Who may use them", "key"),
                printers_tvlink=("Screens", "tv"),
                slicing_printerprofile=("Printer profiles", "straighten"),
            ),
            _menu(
                "Printing",
                jobs_job=("Jobs", "list_alt"),
                jobs_print=("Prints", "deployed_code"),
                slicing_material=("Materials", "palette"),
                slicing_quality=("Qualities", "tune"),
            ),
            _menu("People", farm_user=("People", "person"), auth_group=("Groups", "group")),
            _menu(
                "Records",
                jobs_jobevent=("What happened to jobs", "history"),
                printers_command=("Commands", "terminal"),
                printers_bedclear=("Cleared beds", "cleaning_services"),
                printers_lease=("Bridges", "lan"),
                slicing_model3d=("Models", "view_in_ar"),
                slicing_gcode=("G-code", "code"),
                slicing_profilerevision=("Revisions of profiles", "account_tree"),
                axes_accessattempt=("Failed logins", "lock"),
            ),
        ]
    },
    "SITE_TITLE": FARM_NAME,
    "SITE_HEADER": FARM_NAME,
    "SITE_SYMBOL": "print",
    "SITE_URL": "/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("favicon.svg")}],
    "ENVIRONMENT": None,
    "COLORS": {
        "primary": {
            "50": "#eef9f6",
            "100": "#d3f0e8",
            "200": "#a8e1d3",
            "300": "#7dd8c4",
            "400": "#45b8a0",
            "500": "#1a9780",
            "600": "#0c6857",
            "700": "#0b5c4d",
            "800": "#0a4a3f",
            "900": "#083c33",
            "950": "#042520",
        }
    },
}

# -- logs: one line of JSON (or, for people, of text) per event; secrets masked
LOG_JSON = env.flag("FARM_LOG_JSON", False)


def _mask_secrets(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for key in event:
        if any(word in key.lower() for word in ("api_key", "password", "token", "credential", "authorization")):
            event[key] = "***"
    return event


_SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _mask_secrets,
]
structlog.configure(
    processors=[*_SHARED_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "farm": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer() if LOG_JSON else structlog.dev.ConsoleRenderer(colors=False),
            ],
            "foreign_pre_chain": _SHARED_PROCESSORS,
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "farm"}},
    "root": {"handlers": ["console"], "level": env.text("FARM_LOG_LEVEL", "INFO")},
    "loggers": {
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},  # its debug lines hold URLs
    },
}
