"""Pages of printers."""

from __future__ import annotations

from django.urls import path

from printers import pages

urlpatterns = [
    path("", pages.wall, name="printers"),
    path("printers/<uuid:pk>/", pages.printer, name="printer"),
    path("printers/<uuid:pk>/clear-bed/", pages.clear_bed, name="printer-clear-bed"),
    path("printers/<uuid:pk>/maintenance/", pages.maintenance, name="printer-maintenance"),
    path("printers/<uuid:pk>/commands/", pages.commands, name="printer-commands"),
]
