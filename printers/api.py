"""/api/printers/: machines, their states, beds, commands and files."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from farm.api import FarmView, person
from farm.errors import Conflict, Forbidden, Invalid, NotFound
from printers import access, answers, commands, files, history, services, webcam_views
from printers.drivers.base import PrinterStatus
from printers.models import Command, CommandKind, Printer, Role
from printers.signals import occupants
from printers.views import state_views
from slicing.models import PrinterProfile, shown_name

#: shown, like a printer's own, to those who manage it
CAMERA_ADDRESSES = ("camera_snapshot_url", "camera_stream_url")


class PrinterSerializer(serializers.ModelSerializer[Printer]):
    api_key = serializers.CharField(write_only=True, required=False, allow_blank=True, max_length=200)
    bed_clear = serializers.BooleanField(write_only=True, default=False, help_text="only when adding")
    profile = serializers.PrimaryKeyRelatedField(queryset=PrinterProfile.objects.all(), required=False)
    url = serializers.CharField(max_length=300, help_text="shown to those who manage it")
    role = serializers.SerializerMethodField(help_text="yours: view, submit, operate or manage")

    class Meta:
        model = Printer
        fields = [
            "id",
            "name",
            "kind",
            "url",
            "api_key",
            "profile",
            "place",
            "enabled",
            "maintenance",
            "camera",
            *CAMERA_ADDRESSES,
            "camera_rotation",
            "camera_flip_h",
            "camera_flip_v",
            "bed_clear",
            "role",
        ]
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "name": {"validators": [shown_name]},  # a taken name is a 409 of the service
            "place": {"validators": [shown_name]},
            "maintenance": {"validators": [shown_name], "help_text": "why nothing new may be printed; empty: it may"},
            "camera": {"help_text": "who says where it is: its `server`, you (`own`), or nobody (`off`)"},
            "camera_snapshot_url": {"help_text": "with `own`: gives one picture; shown to those who manage it"},
            "camera_stream_url": {"help_text": "with `own`: gives picture after picture; likewise"},
            "camera_rotation": {"help_text": "degrees clockwise, after mirroring; null: both as its server says"},
            "camera_flip_h": {"help_text": "left and right; only with a rotation"},
            "camera_flip_v": {"help_text": "top and bottom; only with a rotation"},
        }

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_role(self, printer: Printer) -> str | None:
        role = self.context["roles"].get(printer.pk)
        return Role(role).label if role else None

    def to_representation(self, instance: Printer) -> dict[str, Any]:
        """Addresses only to those who manage: a printer's own page has no login of ours."""
        data = super().to_representation(instance)
        if self.context["roles"].get(instance.pk, 0) < Role.MANAGE:
            for name in ("url", *CAMERA_ADDRESSES):
                del data[name]
        return data


class TemperatureSerializer(serializers.Serializer[Any]):
    actual = serializers.FloatField(allow_null=True, help_text="degrees C")
    target = serializers.FloatField(help_text="degrees C")


class LiveJobSerializer(serializers.Serializer[Any]):
    progress = serializers.FloatField(help_text="0..1")
    elapsed_s = serializers.FloatField(allow_null=True)
    left_s = serializers.FloatField(allow_null=True)
    about = serializers.BooleanField(required=False, help_text="left_s is what the farm expects: the machine is silent")
    status = serializers.CharField(help_text="of the farm's print, or `external`")
    material = serializers.CharField(help_text="empty: not known")
    id = serializers.UUIDField(required=False, allow_null=True, help_text="job; for its owner and operators")
    print = serializers.UUIDField(required=False, allow_null=True, help_text="for its owner and operators")
    file = serializers.CharField(required=False, allow_null=True, help_text="for its owner and operators")
    person = serializers.CharField(required=False, allow_null=True, help_text="for its owner and operators")


class UpcomingSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="job")
    file = serializers.CharField()
    person = serializers.CharField()


class StateSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=[s.value for s in PrinterStatus])
    stale = serializers.BooleanField(help_text="nothing heard for 15 s")
    age = serializers.FloatField(allow_null=True, help_text="s since it was heard")
    message = serializers.CharField()
    temperatures = serializers.DictField(child=TemperatureSerializer())
    bed_clear = serializers.BooleanField()
    bed = serializers.IntegerField(help_text="say it when clearing the bed")
    job = LiveJobSerializer(allow_null=True)
    since = serializers.IntegerField(help_text="s since 1970: when it came to be as it is")
    waiting = serializers.IntegerField(help_text="jobs that wait for this very printer")
    next = UpcomingSerializer(allow_null=True, help_text="the first of them; for its owner and operators")
    name = serializers.CharField()
    place = serializers.CharField()
    enabled = serializers.BooleanField()
    maintenance = serializers.CharField()


class CameraSerializer(serializers.Serializer[Any]):
    picture = serializers.CharField(allow_null=True, help_text="where the farm shows one picture; null: no camera")
    live = serializers.CharField(allow_null=True, help_text="where the farm shows it live")
    stream = serializers.BooleanField(help_text="it gives a stream; otherwise live is two pictures a second")
    rotation = serializers.ChoiceField(choices=[0, 90, 180, 270], help_text="degrees clockwise, after mirroring")
    flip_h = serializers.BooleanField(help_text="mirror left and right")
    flip_v = serializers.BooleanField(help_text="mirror top and bottom")


class CommandSerializer(serializers.ModelSerializer[Command]):
    command = serializers.CharField(source="kind")
    person = serializers.SerializerMethodField()
    print = serializers.UUIDField(source="print_id", allow_null=True)

    class Meta:
        model = Command
        fields = ["id", "command", "args", "print", "person", "status", "message", "created_at", "ended_at"]

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_person(self, command: Command) -> str | None:
        return command.by.shown_name if command.by else None


class OneCommandSerializer(CommandSerializer):
    answer = serializers.SerializerMethodField(
        help_text="gcode: the lines that the machine said to it, while they come and for a day; null for who does not"
        " operate the printer"
    )

    class Meta(CommandSerializer.Meta):
        fields = [*CommandSerializer.Meta.fields, "answer"]  # noqa: RUF012 - as its parent's

    @extend_schema_field(serializers.ListField(child=serializers.CharField(), allow_null=True))
    def get_answer(self, command: Command) -> list[str] | None:
        if not self.context["operates"]:
            return None
        return answers.read([command.pk])[command.pk]


class CommandRequestSerializer(serializers.Serializer[Any]):
    command = serializers.ChoiceField(choices=[kind.value for kind in CommandKind if kind != CommandKind.START])
    print = serializers.UUIDField(required=False, help_text="pause, resume, cancel: the print that is meant")
    axes = serializers.ListField(child=serializers.CharField(), required=False, help_text="home: x, y, z")
    x = serializers.FloatField(required=False, help_text="jog, mm")
    y = serializers.FloatField(required=False, help_text="jog, mm")
    z = serializers.FloatField(required=False, help_text="jog, mm")
    speed = serializers.FloatField(required=False, help_text="jog, mm/s")
    heater = serializers.CharField(required=False, help_text="set_temperature: bed, tool0 ...")
    target = serializers.FloatField(required=False, help_text="set_temperature, degrees C")
    lines = serializers.ListField(child=serializers.CharField(), required=False, help_text="gcode")


IdentitySerializer = inline_serializer(
    "Identity",
    {
        "software": serializers.CharField(),
        "name": serializers.CharField(),
        "status": serializers.CharField(),
        "message": serializers.CharField(),
        "capabilities": serializers.ListField(child=serializers.CharField()),
    },
)
FilesSerializer = inline_serializer(
    "RemoteFiles",
    {
        "next": serializers.CharField(allow_null=True),
        "previous": serializers.CharField(allow_null=True),
        "results": inline_serializer(
            "RemoteFile",
            {
                "path": serializers.CharField(),
                "size": serializers.IntegerField(allow_null=True, help_text="bytes"),
                "location": serializers.CharField(),
                "modified": serializers.FloatField(allow_null=True, help_text="s since 1970, by the printer's clock"),
            },
            many=True,
        ),
    },
)
TemperaturesSerializer = inline_serializer(
    "Temperatures",
    {
        "now": serializers.FloatField(help_text="s since 1970, by the farm's clock"),
        "times": serializers.ListField(child=serializers.FloatField(), help_text="s since 1970, oldest first"),
        "heaters": serializers.DictField(
            help_text="by heater: actual and target in degrees C at these times; null: not known then",
            child=inline_serializer(
                "HeaterTemperatures",
                {
                    "actual": serializers.ListField(child=serializers.FloatField(allow_null=True)),
                    "target": serializers.ListField(child=serializers.FloatField(allow_null=True)),
                },
            ),
        ),
    },
)
_LOCATION = OpenApiParameter("location", enum=["local", "sdcard"], default="local")


def _one(request: Request, printer: Printer) -> dict[str, Any]:
    roles = access.roles(person(request), [printer])
    return PrinterSerializer(printer, context={"roles": roles}).data


class Printers(FarmView, GenericAPIView[Printer]):
    """The printers this person may see."""

    serializer_class = PrinterSerializer
    queryset = Printer.objects.none()
    filterset_fields = ["name", "kind", "place", "enabled", "profile"]

    def get(self, request: Request) -> Response:
        rows = self.filter_queryset(access.visible(person(request)))
        page = self.paginate_queryset(rows) or []
        roles = access.roles(person(request), page)
        return self.get_paginated_response(PrinterSerializer(page, many=True, context={"roles": roles}).data)

    @extend_schema(responses={201: PrinterSerializer})
    def post(self, request: Request) -> Response:
        if not person(request).is_staff:
            raise Forbidden("Only staff add printers.")
        serializer = PrinterSerializer(data=request.data, context={"roles": {}})
        serializer.is_valid(raise_exception=True)
        printer = services.add_printer(by=person(request), **serializer.validated_data)
        return Response(_one(request, printer), status=201)


class OnePrinter(FarmView):
    @extend_schema(responses=PrinterSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_one(request, access.get(person(request), pk, Role.VIEW)))

    @extend_schema(request=PrinterSerializer(partial=True), responses=PrinterSerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.MANAGE)
        serializer = PrinterSerializer(printer, data=request.data, partial=True, context={"roles": {}})
        serializer.is_valid(raise_exception=True)
        if "bed_clear" in serializer.validated_data:
            raise Invalid("A bed is cleared at /clear-bed/, by whoever looked at it.", field="bed_clear")
        return Response(_one(request, services.change_printer(printer, **serializer.validated_data)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        services.remove_printer(access.get(person(request), pk, Role.MANAGE))
        return Response(status=204)


class TestConnection(FarmView):
    """Can we reach it, is the key right, what is it."""

    @extend_schema(request=None, responses={200: IdentitySerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.MANAGE)
        found = services.try_connection(printer)
        return Response(
            {
                "software": found.software,
                "name": found.name,
                "status": found.status.value,
                "message": found.message,
                "capabilities": sorted(found.capabilities),
            }
        )


class State(FarmView):
    """The newest state, without asking the printer."""

    @extend_schema(responses=StateSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.VIEW)
        return Response(state_views(person(request), [printer])[printer.pk])


class Temperatures(FarmView):
    """Of the last half hour, without asking the printer."""

    @extend_schema(responses=TemperaturesSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.VIEW)
        return Response({"now": time.time(), **history.columns(history.read(printer.pk))})


class CameraFacts(FarmView):
    """Whether it has a camera, where the farm shows it, and how to turn the picture: mirror first, then rotate."""

    @extend_schema(responses=CameraSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.VIEW)
        camera = webcam_views.camera_or_none(printer)
        facts: dict[str, Any] = {"rotation": 0, "flip_h": False, "flip_v": False}
        if camera is not None:
            facts = {"rotation": camera.rotation, "flip_h": camera.flip_h, "flip_v": camera.flip_v}
        picture, live = (reverse(f"api-printer-camera-{name}", args=[pk]) for name in ("picture", "live"))
        shown = camera is not None
        stream = camera is not None and bool(camera.stream)
        return Response(
            {"picture": picture if shown else None, "live": live if shown else None, "stream": stream} | facts
        )


class CameraPicture(FarmView):
    """One picture, at most about a second old."""

    @extend_schema(responses={(200, "image/jpeg"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        return webcam_views.picture_response(person(request), pk)


class CameraLive(FarmView):
    """multipart/x-mixed-replace: the newest picture whenever you have read the one before, for ten minutes or until
    your token ends; 429 when you have four of them open."""

    @extend_schema(responses={(200, "multipart/x-mixed-replace"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> StreamingHttpResponse:
        token: Any = request.auth
        viewer = webcam_views.Viewer(
            user_id=request.user.pk,
            session=None if token else request.session.session_key,
            until=token["exp"] if token else None,
        )
        return webcam_views.live_response(person(request), pk, viewer)


class ClearBed(FarmView):
    """The bed was looked at and is empty. Name the ``bed`` that the state showed."""

    @extend_schema(
        request=inline_serializer("ClearBed", {"bed": serializers.IntegerField(min_value=0)}), responses=StateSerializer
    )
    def post(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.OPERATE)
        bed = request.data.get("bed") if isinstance(request.data, dict) else None
        if isinstance(bed, bool) or not isinstance(bed, int):
            raise Invalid("bed: the number that the printer's state showed.", field="bed")
        services.clear_bed(printer, bed, by=person(request))
        printer.refresh_from_db()
        return Response(state_views(person(request), [printer])[printer.pk])


class Commands(FarmView, GenericAPIView[Command]):
    """What was asked of a printer. There is no start here: only dispatch starts prints."""

    serializer_class = CommandSerializer
    queryset = Command.objects.none()
    filterset_fields = ["kind", "status"]

    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.OPERATE)
        page = self.paginate_queryset(self.filter_queryset(printer.commands.select_related("by")))
        return self.get_paginated_response(CommandSerializer(page, many=True).data)

    @extend_schema(request=CommandRequestSerializer, responses={202: CommandSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        printer = commandable(person(request), pk, request.data)
        serializer = CommandRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        args = dict(serializer.validated_data)
        kind, print_id = args.pop("command"), args.pop("print", None)
        command = commands.request_command(printer, kind, args, by=person(request), print_id=print_id)
        return Response(CommandSerializer(command).data, status=202)


def commandable(user: Any, pk: Any, data: Any) -> Printer:
    """The printer, if this person operates it, or asks for their own live print to be paused, resumed or cancelled.

    Raises NotFound, Forbidden, and Conflict when the print that is meant is not on it: an owner whose print has just
    ended lacks no right.
    """
    printer = access.get(user, pk, Role.VIEW)
    kind, meant = (data.get("command"), data.get("print")) if isinstance(data, dict) else (None, None)
    if kind in commands.FOR_A_PRINT and meant:
        live = occupants([printer.pk]).get(printer.pk)
        if live is None or str(live.print_id) != str(meant):
            raise Conflict("That print is no longer on this printer. Look again.", code="not_live")
        if live.owner_id == user.pk:
            return printer
    return access.get(user, pk, Role.OPERATE)


class OneCommand(FarmView):
    @extend_schema(responses=OneCommandSerializer)
    def get(self, request: Request, pk: UUID, command_pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.VIEW)
        command = printer.commands.select_related("by").filter(pk=command_pk).first()
        operates = access.role_on(person(request), printer) >= Role.OPERATE
        if command is None or not (operates or command.by_id == person(request).pk):
            raise NotFound("There is no such command, or you may not see it.")
        return Response(OneCommandSerializer(command, context={"operates": operates}).data)


class Files(FarmView):
    """Files on the printer itself, newest first."""

    @extend_schema(parameters=[_LOCATION], responses={200: FilesSerializer})
    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.OPERATE)
        found = files.on_printer(printer, _location(request))
        return Response({"next": None, "previous": None, "results": [asdict(file) for file in found]})

    @extend_schema(parameters=[_LOCATION, OpenApiParameter("path", required=True)], responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.OPERATE)
        files.delete(printer, request.query_params.get("path", ""), _location(request))
        return Response(status=204)


def _location(request: Request) -> str:
    return files.checked_location(request.query_params.get("location", "local"))


class Objects(FarmView):
    """The vendor's own objects, for experts; ``?name=extruder&name=...`` for values."""

    @extend_schema(parameters=[OpenApiParameter("name", many=True)], responses={200: dict[str, Any]})
    def get(self, request: Request, pk: UUID) -> Response:
        printer = access.get(person(request), pk, Role.OPERATE)
        names = request.query_params.getlist("name")
        return Response(services.asking(printer, lambda driver: driver.objects(names)))
