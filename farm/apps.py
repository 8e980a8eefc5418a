from django.apps import AppConfig


class FarmConfig(AppConfig):
    name = "farm"
    verbose_name = "People"

    def ready(self) -> None:
        from farm import celery  # noqa: F401 - so that tasks meet our app in every process
