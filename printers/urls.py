"""Pages of printers."""

from __future__ import annotations

from django.urls import path

from printers import pages, parts, tv, wall, webcam_views

urlpatterns = [
    path("", wall.wall, name="printers"),
    path("printers/actions/", wall.act, name="printers-actions"),
    path("tv/", tv.links, name="tv-links"),
    path("tv/<uuid:pk>/revoke/", tv.revoke, name="tv-revoke"),
    path("tv/<str:secret>/", tv.tv, name="tv"),
    path("printers/<uuid:pk>/", pages.printer, name="printer"),
    path("printers/<uuid:pk>/clear-bed/", pages.clear_bed, name="printer-clear-bed"),
    path("printers/<uuid:pk>/maintenance/", pages.maintenance, name="printer-maintenance"),
    path("printers/<uuid:pk>/camera.jpg", webcam_views.picture, name="printer-camera"),
    path("printers/<uuid:pk>/camera", webcam_views.live, name="printer-camera-live"),
    path("printers/<uuid:pk>/commands/", pages.commands, name="printer-commands"),
    path("printers/<uuid:pk>/heat/", parts.heat, name="printer-heat"),
    path("printers/<uuid:pk>/console/", parts.console, name="printer-console"),
    path("printers/<uuid:pk>/files/", parts.files_on, name="printer-files"),
    path("printers/<uuid:pk>/files/delete/", parts.delete_file, name="printer-file-delete"),
]
