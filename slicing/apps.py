from django.apps import AppConfig


class SlicingConfig(AppConfig):
    name = "slicing"
