"""Pages of jobs and prints."""

from __future__ import annotations

from django.urls import path

from jobs import overviews, pages

urlpatterns = [
    path("submit/", pages.submit, name="submit"),
    path("submit/<uuid:pk>/", pages.options, name="submit-options"),
    path("submit/<uuid:pk>/stands/", pages.stands, name="submit-stands"),
    path("submit/<uuid:pk>/estimate/", pages.estimate, name="submit-estimate"),
    path("jobs/<uuid:pk>/", pages.job, name="job"),
    path("jobs/<uuid:pk>/layers/", pages.layers, name="job-layers"),
    path("jobs/<uuid:pk>/again/", pages.again, name="job-again"),
    path("jobs/<uuid:pk>/cancel/", pages.cancel, name="job-cancel"),
    path("jobs/<uuid:pk>/start/", pages.start, name="job-start"),
    path("jobs/<uuid:pk>/hold/", pages.hold, name="job-hold"),
    path("jobs/<uuid:pk>/approve/", pages.approve, name="job-approve"),
    path("jobs/<uuid:pk>/reject/", pages.reject, name="job-reject"),
    path("queue/", overviews.queue, name="queue"),
    path("prints/", overviews.prints, name="prints"),
    path("prints/<uuid:pk>/decide/", pages.decide, name="print-decide"),
    path("printers/<uuid:pk>/jobs/", overviews.printer_jobs, name="printer-jobs"),
]
