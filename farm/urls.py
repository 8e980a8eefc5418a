"""Every address of the farm."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path, re_path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from farm import errorpages
from farm.tickets import Ticket
from jobs import api as jobs
from printers import api as printers
from printers import many_api
from slicing import api as slicing


@login_not_required
def healthy(request: HttpRequest) -> HttpResponse:
    """For proxies and supervisors: the web process answers."""
    return JsonResponse({"ok": True})


@csrf_exempt
@login_not_required
def no_such_endpoint(request: HttpRequest, **_: Any) -> HttpResponse:
    return errorpages.answer(request, 404, "not_found", "There is no such address in this API. See /api/docs/.")


api = [
    path("token/", login_not_required(never_cache(TokenObtainPairView.as_view()))),
    path("token/refresh/", login_not_required(never_cache(TokenRefreshView.as_view()))),
    path("ws-ticket/", Ticket.as_view()),
    path("profiles/", slicing.Profiles.as_view()),
    path("profiles/import/", slicing.ImportProfiles.as_view()),
    path("profiles/<uuid:pk>/", slicing.Profile.as_view()),
    path("profiles/<uuid:pk>/revisions/", slicing.ProfileRevisions.as_view()),
    path("materials/", slicing.Materials.as_view()),
    path("materials/<uuid:pk>/", slicing.OneMaterial.as_view()),
    path("materials/<uuid:pk>/revisions/", slicing.MaterialRevisions.as_view()),
    path("qualities/", slicing.Qualities.as_view()),
    path("qualities/<uuid:pk>/", slicing.OneQuality.as_view()),
    path("qualities/<uuid:pk>/revisions/", slicing.QualityRevisions.as_view()),
    path("settings/", slicing.Settings.as_view()),
    path("engines/", slicing.Engines.as_view()),
    path("models/", slicing.Models.as_view()),
    path("models/<uuid:pk>/", slicing.OneModel.as_view()),
    path("models/<uuid:pk>/stands/", slicing.ModelStands.as_view()),
    path("models/<uuid:pk>/file/", slicing.ModelFile.as_view()),
    path("models/<uuid:pk>/picture/", slicing.ModelPicture.as_view(), name="api-model-picture"),
    path("models/<uuid:pk>/shape/", slicing.ModelShape.as_view(), name="api-model-shape"),
    path("models/<uuid:pk>/estimate/toolpaths/", jobs.EstimateToolpaths.as_view(), name="api-estimate-toolpaths"),
    path("models/<uuid:pk>/estimate/toolpaths/<int:number>/", jobs.EstimateLayerToolpaths.as_view()),
    path("gcodes/", slicing.Gcodes.as_view()),
    path("gcodes/<uuid:pk>/", slicing.OneGcode.as_view()),
    path("gcodes/<uuid:pk>/picture/", slicing.GcodePicture.as_view()),
    path("gcodes/<uuid:pk>/layers/<int:number>/picture/", slicing.GcodeLayer.as_view()),
    path("gcodes/<uuid:pk>/toolpaths/", slicing.GcodeToolpaths.as_view()),
    path("gcodes/<uuid:pk>/toolpaths/<int:number>/", slicing.GcodeLayerToolpaths.as_view()),
    path("printers/", printers.Printers.as_view()),
    path("printers/actions/", many_api.Actions.as_view()),
    path("printers/<uuid:pk>/", printers.OnePrinter.as_view()),
    path("printers/<uuid:pk>/test/", printers.TestConnection.as_view()),
    path("printers/<uuid:pk>/state/", printers.State.as_view()),
    path("printers/<uuid:pk>/temperatures/", printers.Temperatures.as_view(), name="api-printer-temperatures"),
    path("printers/<uuid:pk>/camera/", printers.CameraFacts.as_view()),
    path("printers/<uuid:pk>/camera/picture/", printers.CameraPicture.as_view(), name="api-printer-camera-picture"),
    path("printers/<uuid:pk>/camera/live/", printers.CameraLive.as_view(), name="api-printer-camera-live"),
    path("printers/<uuid:pk>/clear-bed/", printers.ClearBed.as_view()),
    path("printers/<uuid:pk>/commands/", printers.Commands.as_view()),
    path("printers/<uuid:pk>/commands/<uuid:command_pk>/", printers.OneCommand.as_view()),
    path("printers/<uuid:pk>/files/", printers.Files.as_view()),
    path("printers/<uuid:pk>/objects/", printers.Objects.as_view()),
    path("jobs/", jobs.Jobs.as_view()),
    path("jobs/<uuid:pk>/", jobs.OneJob.as_view(), name="api-job"),
    path("jobs/<uuid:pk>/cancel/", jobs.CancelJob.as_view()),
    path("jobs/<uuid:pk>/start/", jobs.StartJob.as_view()),
    path("jobs/<uuid:pk>/hold/", jobs.HoldJob.as_view()),
    path("jobs/<uuid:pk>/again/", jobs.RepeatJob.as_view()),
    path("jobs/<uuid:pk>/approve/", jobs.ApproveJob.as_view()),
    path("jobs/<uuid:pk>/reject/", jobs.RejectJob.as_view()),
    path("jobs/<uuid:pk>/events/", jobs.JobEvents.as_view()),
    path("jobs/<uuid:pk>/gcode/", jobs.JobGcode.as_view(), name="api-job-gcode"),
    path("jobs/<uuid:pk>/picture/", jobs.JobPicture.as_view(), name="api-job-picture"),
    path("jobs/<uuid:pk>/layers/<int:number>/picture/", jobs.JobLayer.as_view(), name="api-job-layer"),
    path("jobs/<uuid:pk>/toolpaths/", jobs.JobToolpaths.as_view(), name="api-job-toolpaths"),
    path("jobs/<uuid:pk>/toolpaths/<int:number>/", jobs.JobLayerToolpaths.as_view()),
    path("prints/", jobs.Prints.as_view()),
    path("prints/<uuid:pk>/", jobs.OnePrint.as_view()),
    path("prints/<uuid:pk>/decide/", jobs.DecidePrint.as_view()),
    path("schema/", login_not_required(SpectacularAPIView.as_view()), name="schema"),
    path("docs/", login_not_required(SpectacularSwaggerSplitView.as_view(url_name="schema"))),
    re_path(r"^.*$", no_such_endpoint),
]

urlpatterns = [
    path("healthy/", healthy),
    path("login/", LoginView.as_view(template_name="login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/", include(api)),
    path("", include("printers.urls")),
    path("", include("jobs.urls")),
]

handler400 = errorpages.bad_request
handler403 = errorpages.forbidden
handler404 = errorpages.not_found
handler500 = errorpages.server_error
