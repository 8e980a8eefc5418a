"""/api/jobs/ and /api/prints/."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiTypes, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from farm.api import FarmView, person
from farm.downloads import download, picture
from farm.errors import NotFound
from farm.paging import Pages
from jobs import access, estimates, expected, services
from jobs.models import Job, JobEvent, Print
from jobs.states import PRINT_TERMINAL, PrintStatus
from printers import access as printer_access
from printers.models import Role
from slicing import gallery
from slicing.api import PictureView, RevisionSerializer, layer_picture, own_gcodes, own_models, toolpaths
from slicing.models import Gcode, shown_name


class PrintSerializer(serializers.ModelSerializer[Print]):
    """One attempt."""

    person = serializers.CharField(source="job.owner.shown_name", read_only=True)
    file = serializers.CharField(source="job.name", read_only=True)

    class Meta:
        model = Print
        fields = [
            "id",
            "job",
            "person",
            "file",
            "printer",
            "printer_name",
            "status",
            "message",
            "progress",
            "filament_mm",
            "filament_estimated",
            "duration_s",
            "created_at",
            "started_at",
            "ended_at",
        ]


class JobSerializer(serializers.ModelSerializer[Job]):
    status = serializers.SerializerMethodField(help_text="with one copy: its print's status in place of `active`")
    person = serializers.CharField(source="owner.shown_name", read_only=True)
    printed = serializers.SerializerMethodField(help_text="copies completed")
    prints = PrintSerializer(many=True, read_only=True)
    material = RevisionSerializer(read_only=True)
    quality = RevisionSerializer(read_only=True)
    time_s = serializers.FloatField(source="gcode.time_s", default=None, read_only=True, help_text="as its G-code says")
    expected_s = serializers.SerializerMethodField(help_text="of one copy, about: by what its printer really takes")
    filament_mm = serializers.FloatField(source="gcode.filament_mm", default=None, read_only=True)

    class Meta:
        model = Job
        fields = [
            "id",
            "name",
            "person",
            "status",
            "message",
            "model",
            "gcode",
            "printer",
            "material",
            "quality",
            "placement",
            "settings",
            "copies",
            "printed",
            "hold",
            "cancel_requested",
            "slice_progress",
            "time_s",
            "expected_s",
            "filament_mm",
            "created_at",
            "ended_at",
            "prints",
        ]

    @extend_schema_field(serializers.CharField())
    def get_status(self, job: Job) -> str:
        return services.shown_status(job, list(job.prints.all()))

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_expected_s(self, job: Job) -> float | None:
        known = self.context.get("expected")
        found = (expected.of_jobs([job]) if known is None else known).get(job.pk)
        return round(found.seconds, 1) if found else None

    @extend_schema_field(serializers.IntegerField())
    def get_printed(self, job: Job) -> int:
        return sum(attempt.status == PrintStatus.COMPLETED for attempt in job.prints.all())


class PlacementSerializer(serializers.Serializer[Any]):
    """Scaled along its own axes, then turned by degrees about the fixed axes x, y and z, in that order."""

    scale = serializers.ListField(child=serializers.FloatField(), min_length=3, max_length=3, default=[1, 1, 1])
    rotation = serializers.ListField(child=serializers.FloatField(), min_length=3, max_length=3, default=[0, 0, 0])


class JobRequestSerializer(serializers.Serializer[Any]):
    model = serializers.UUIDField(required=False, allow_null=True)
    gcode = serializers.UUIDField(required=False, allow_null=True)
    printer = serializers.UUIDField(required=False, allow_null=True, help_text="null: any that fits")
    copies = serializers.IntegerField(default=1, min_value=1, max_value=100)
    hold = serializers.BooleanField(default=False)
    material = serializers.UUIDField(required=False, allow_null=True, help_text="default: the default material")
    quality = serializers.UUIDField(required=False, allow_null=True, help_text="default: the default quality")
    placement = PlacementSerializer(required=False, help_text="how the model stands; default: as in its file")
    settings = serializers.DictField(default=dict, help_text="layer_height, walls, infill_density ...: over these")


class EventSerializer(serializers.ModelSerializer[JobEvent]):
    person = serializers.SerializerMethodField()

    class Meta:
        model = JobEvent
        fields = ["print", "old", "new", "cause", "message", "person", "at"]

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_person(self, event: JobEvent) -> str | None:
        return event.actor.shown_name if event.actor else None


class RejectSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(default="", allow_blank=True, max_length=300, validators=[shown_name])


class DecideSerializer(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(choices=[status.value for status in PRINT_TERMINAL])


def _asked(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """What a body says. Raises ValidationError."""
    serializer.is_valid(raise_exception=True)
    asked: dict[str, Any] = serializer.validated_data
    return asked


_RELATED = ("prints__job__owner",)


class Jobs(FarmView, GenericAPIView[Job]):
    """Own jobs; staff see all."""

    serializer_class = JobSerializer
    queryset = Job.objects.none()
    filterset_fields = ["status", "printer", "hold", "owner"]

    def get(self, request: Request) -> Response:
        rows = (
            access.visible(person(request))
            .select_related("owner", "gcode", "printer", "material", "quality")
            .prefetch_related(*_RELATED)
        )
        page = self.paginate_queryset(self.filter_queryset(rows)) or []
        known = {"expected": expected.of_jobs(page)}
        return self.get_paginated_response(JobSerializer(page, many=True, context=known).data)

    @extend_schema(request=JobRequestSerializer, responses={201: JobSerializer})
    def post(self, request: Request) -> Response:
        wanted = _asked(JobRequestSerializer(data=request.data))
        user = person(request)
        job = services.submit(
            user,
            model=_named(own_models(user), wanted.get("model"), "model"),
            gcode=_named(own_gcodes(user), wanted.get("gcode"), "G-code"),
            printer=printer_access.get(user, wanted["printer"], Role.SUBMIT) if wanted.get("printer") else None,
            copies=wanted["copies"],
            hold=wanted["hold"],
            settings=wanted["settings"],
            material=wanted.get("material"),
            quality=wanted.get("quality"),
            placement=wanted.get("placement"),
        )
        return Response(JobSerializer(job).data, status=201)


def _named(rows: Any, pk: UUID | None, what: str) -> Any:
    if pk is None:
        return None
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotFound(f"There is no such {what}, or you may not see it.")
    return row


class OneJob(FarmView):
    @extend_schema(responses=JobSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(JobSerializer(access.get(person(request), pk)).data)


class CancelJob(FarmView):
    """Take a job back. What is being printed is cancelled at its printer."""

    @extend_schema(request=None, responses=JobSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        job = services.cancel(access.get(person(request), pk), by=person(request))
        return Response(JobSerializer(job).data)


class StartJob(FarmView):
    """End the hold: it takes its place in the queue."""

    @extend_schema(request=None, responses=JobSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        job = access.get(person(request), pk)
        services.release(job, by=person(request))
        return Response(JobSerializer(job).data)


class HoldJob(FarmView):
    """Let nothing more of it begin until it is started."""

    @extend_schema(request=None, responses=JobSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        job = access.get(person(request), pk)
        services.hold(job, by=person(request))
        return Response(JobSerializer(job).data)


class RepeatJob(FarmView):
    """The same once more, with material and quality as they were then."""

    @extend_schema(request=None, responses={201: JobSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        job = services.again(access.get(person(request), pk), by=person(request))
        return Response(JobSerializer(job).data, status=201)


class ApproveJob(FarmView):
    """Staff: let it into the queue."""

    @extend_schema(request=None, responses=JobSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        job = access.get(person(request), pk)
        services.approve(job, by=person(request))
        return Response(JobSerializer(job).data)


class RejectJob(FarmView):
    """Staff: do not print it, and say why."""

    @extend_schema(request=RejectSerializer, responses=JobSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        job = access.get(person(request), pk)
        access.require_staff(person(request))
        services.reject(job, by=person(request), why=_asked(RejectSerializer(data=request.data))["reason"])
        return Response(JobSerializer(job).data)


class JobEvents(FarmView, GenericAPIView[JobEvent]):
    """Everything that happened to a job, oldest first."""

    serializer_class = EventSerializer
    queryset = JobEvent.objects.none()
    filterset_fields = ["new", "print"]

    class pagination_class(Pages):  # noqa: N801 - DRF reads this name
        ordering = ("at", "pk")

    def get(self, request: Request, pk: UUID) -> Response:
        job = access.get(person(request), pk)
        page = self.paginate_queryset(self.filter_queryset(job.events.select_related("actor")))
        return self.get_paginated_response(EventSerializer(page, many=True).data)


class JobGcode(FarmView):
    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> StreamingHttpResponse:
        job = access.get(person(request), pk)
        if job.gcode is None:
            raise NotFound("This job is not sliced yet.", code="not_sliced")
        return download(Path(job.gcode.file.path), job.gcode.name)


class JobPicture(PictureView):
    """What it will look like: of its G-code, and of its model until that is sliced."""

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        job = access.get_queued(person(request), pk)
        shown = job.gcode if job.gcode is not None and job.gcode.picture else job.model
        if shown is None:
            raise NotFound("There is no picture of this.", code="no_picture")
        return picture(request, gallery.picture(shown.picture), shown.sha256)


class JobLayer(PictureView):
    """The lines of one layer, coloured by what they are for; the lowest is 1."""

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID, number: int) -> HttpResponse:
        return layer_picture(request, _sliced(request, pk), number)


class EstimateToolpaths(PictureView):
    """As of a job: the layers of what this person had sliced ahead, on the page that a model is submitted on."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        return toolpaths(request, _estimated(request, pk))


class EstimateLayerToolpaths(PictureView):
    """One layer of it exactly, and its travels; the lowest is 1."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID, number: int) -> HttpResponse:
        return toolpaths(request, _estimated(request, pk), number)


def _estimated(request: Request, pk: UUID) -> Gcode:
    user = person(request)
    return estimates.gcode_of(estimates.of(user, _named(own_models(user), pk, "model")))


class JobToolpaths(PictureView):
    """All layers as lines in space, made coarser until a phone can show them: see slicing/toolpaths.py for the
    bytes."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        return toolpaths(request, _sliced(request, pk))


class JobLayerToolpaths(PictureView):
    """The lines of one layer exactly, and its travels; the lowest is 1."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID, number: int) -> HttpResponse:
        return toolpaths(request, _sliced(request, pk), number)


def _sliced(request: Request, pk: UUID) -> Gcode:
    job = access.get_queued(person(request), pk)
    if job.gcode is None:
        raise NotFound("This job is not sliced yet.", code="not_sliced")
    return job.gcode


class Prints(FarmView, GenericAPIView[Print]):
    """The history: one row per attempt."""

    serializer_class = PrintSerializer
    queryset = Print.objects.none()
    filterset_fields = ["status", "printer", "job"]

    def get(self, request: Request) -> Response:
        rows = access.visible_prints(person(request)).select_related("job__owner")
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(PrintSerializer(page, many=True).data)


class OnePrint(FarmView):
    @extend_schema(responses=PrintSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(PrintSerializer(access.get_print(person(request), pk)).data)


class DecidePrint(FarmView):
    """Staff looked at the machine and say how a print ended that the farm cannot follow."""

    @extend_schema(request=DecideSerializer, responses=PrintSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        attempt = access.get_print(person(request), pk)
        access.require_staff(person(request))
        services.decide(attempt, _asked(DecideSerializer(data=request.data))["outcome"], by=person(request))
        return Response(PrintSerializer(attempt).data)
