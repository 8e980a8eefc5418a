"""/api/profiles/, /api/models/, /api/gcodes/."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiTypes, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from farm.api import FarmView, person
from farm.downloads import download, picture, view
from farm.errors import Forbidden, NotFound
from farm.models import User
from farm.paging import Pages
from slicing import gallery, making, presets, profiles, services
from slicing.models import Gcode, Material, Model3D, PrinterProfile, ProfileRevision, Quality
from slicing.profiles import AnyProfile

_LABELS = ["id", "name", "revision", "is_default", "note", "groups"]


class ProfileSerializer(serializers.ModelSerializer[PrinterProfile]):
    class Meta:
        model = PrinterProfile
        fields = [
            *_LABELS,
            "engine",
            "width",
            "depth",
            "height",
            "origin_x",
            "origin_y",
            "nozzle_diameter",
            "filament_diameter",
            "flavour",
            "max_nozzle_temperature",
            "max_bed_temperature",
            *(f"{what}_{axis}" for what in ("max_speed", "max_acceleration", "jerk") for axis in "xyze"),
            "acceleration",
            "start_gcode",
            "end_gcode",
            "settings",
        ]
        read_only_fields = ["revision", "is_default"]


class MaterialSerializer(serializers.ModelSerializer[Material]):
    settings = serializers.DictField(default=dict, help_text="see /api/settings/")

    class Meta:
        model = Material
        fields = [*_LABELS, "order", "settings"]
        read_only_fields = ["revision", "is_default"]


class QualitySerializer(serializers.ModelSerializer[Quality]):
    settings = serializers.DictField(default=dict, help_text="see /api/settings/")

    class Meta:
        model = Quality
        fields = [*_LABELS, "order", "settings"]
        read_only_fields = ["revision", "is_default"]


class SettingSerializer(serializers.Serializer[Any]):
    """One setting of a slice."""

    name = serializers.CharField()
    default = serializers.JSONField()
    whole = serializers.BooleanField(help_text="whole numbers only")
    options = serializers.ListField(child=serializers.JSONField())
    meaning = serializers.CharField()
    unit = serializers.CharField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    part = serializers.CharField(help_text="material or quality: which of both may say it")


class EngineSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    version = serializers.CharField()
    missing = serializers.CharField(help_text="why it cannot be used; empty: it can")
    isolation = serializers.CharField(help_text="how its program is cut off from the network and the farm")


class RevisionSerializer(serializers.ModelSerializer[ProfileRevision]):
    """The values that a profile had in one revision. ``profile`` is the id of the printer profile, material or
    quality."""

    profile = serializers.UUIDField(source="profile_id", read_only=True)

    class Meta:
        model = ProfileRevision
        fields = ["profile", "kind", "number", "name", "values", "created_at"]


class ModelSerializer(serializers.ModelSerializer[Model3D]):
    size_mm = serializers.ListField(child=serializers.FloatField(), read_only=True, help_text="[x, y, z]")

    class Meta:
        model = Model3D
        fields = ["id", "name", "size_mm", "triangles", "volume_mm3", "watertight", "bytes", "created_at"]


class GcodeSerializer(serializers.ModelSerializer[Gcode]):
    material = RevisionSerializer(read_only=True, help_text="null: uploaded, or the engine's defaults")
    quality = RevisionSerializer(read_only=True)

    class Meta:
        model = Gcode
        fields = [
            "id",
            "name",
            "profile",
            "profile_revision",
            "material",
            "quality",
            "engine",
            "settings",
            "time_s",
            "filament_mm",
            "filament_g",
            "layers",
            "bytes",
            "facts",
            "created_at",
        ]


class UploadSerializer(serializers.Serializer[Any]):
    file = serializers.FileField(allow_empty_file=True)  # empty: refused by the service, with its own sentence


class GcodeUploadSerializer(UploadSerializer):
    profile = serializers.UUIDField(required=False, help_text="default: the default profile")


def may_operate(user: Any, profile: Any = None) -> None:
    """Raises Forbidden unless this person operates some printer: such a file can move and heat one at will. With a
    printer profile: every printer that it describes."""
    if not user.has_perm("printers.operate"):
        raise Forbidden("This needs the right to operate a printer. Ask the people who run the lab.")
    if isinstance(profile, PrinterProfile) and not user.has_perm("printers.operate", profile):
        raise Forbidden("This profile describes printers that you do not operate. Ask the people who run the lab.")


def own_models(user: User) -> QuerySet[Model3D]:
    return Model3D.objects.all() if user.is_staff else Model3D.objects.filter(owner=user)


def own_gcodes(user: User) -> QuerySet[Gcode]:
    uploaded = Gcode.objects.exclude(owner=None)
    return uploaded if user.is_staff else uploaded.filter(owner=user)


class PictureView(FarmView):
    """A PNG. A page may show dozens of them, so they are not counted among a person's calls: what costs something is
    drawn once, and not many at a time."""

    throttle_classes: list[type[BaseThrottle]] = []


class _Profiles(FarmView, GenericAPIView[AnyProfile]):
    """List and add one kind of profile. Adding needs the right to operate a printer."""

    kind: type[AnyProfile]

    def get_queryset(self) -> QuerySet[AnyProfile]:
        return profiles.visible(person(self.request), self.kind).prefetch_related("groups")

    def get(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def post(self, request: Request) -> Response:
        may_operate(person(request))
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        made = profiles.add_profile(self.kind, **serializer.validated_data)
        return Response(self.get_serializer(made).data, status=201)


class _Profile(FarmView, GenericAPIView[AnyProfile]):
    """One of them. A change makes a new revision."""

    kind: type[AnyProfile]

    def _row(self, request: Request, pk: UUID) -> AnyProfile:
        return profiles.get(person(request), self.kind, pk)

    def get(self, request: Request, pk: UUID) -> Response:
        return Response(self.get_serializer(self._row(request, pk)).data)

    def patch(self, request: Request, pk: UUID) -> Response:
        row = self._row(request, pk)
        may_operate(person(request), row)
        serializer = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        return Response(self.get_serializer(profiles.change_profile(row, **serializer.validated_data)).data)


class _Revisions(FarmView, GenericAPIView[ProfileRevision]):
    """Every revision that a profile ever had, newest first."""

    serializer_class = RevisionSerializer
    queryset = ProfileRevision.objects.none()
    kind: type[PrinterProfile | Material | Quality]

    class pagination_class(Pages):  # noqa: N801 - DRF reads this name
        ordering = ("-number", "pk")

    def get(self, request: Request, pk: UUID) -> Response:
        page = self.paginate_queryset(profiles.revisions(profiles.get(person(request), self.kind, pk)))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class Profiles(_Profiles[PrinterProfile]):
    """Printer profiles: what kinds of machines there are, and which engine slices for them."""

    kind = PrinterProfile
    queryset = PrinterProfile.objects.all()
    serializer_class = ProfileSerializer
    filterset_fields = ["name", "nozzle_diameter", "flavour", "engine"]


class Profile(_Profile[PrinterProfile]):
    kind = PrinterProfile
    queryset = PrinterProfile.objects.all()
    serializer_class = ProfileSerializer


class ProfileRevisions(_Revisions):
    kind = PrinterProfile


class _InOrder(Pages):
    """As people choose from them: in the order that staff gave them."""

    ordering = ("order", "name", "pk")


class Materials(_Profiles[Material]):
    """Kinds of filament, with their heat, flow and cooling."""

    pagination_class = _InOrder
    kind = Material
    queryset = Material.objects.all()
    serializer_class = MaterialSerializer
    filterset_fields = ["name"]


class OneMaterial(_Profile[Material]):
    kind = Material
    queryset = Material.objects.all()
    serializer_class = MaterialSerializer


class MaterialRevisions(_Revisions):
    kind = Material


class Qualities(_Profiles[Quality]):
    """How fine and how strong, in plain words."""

    pagination_class = _InOrder
    kind = Quality
    queryset = Quality.objects.all()
    serializer_class = QualitySerializer
    filterset_fields = ["name"]


class OneQuality(_Profile[Quality]):
    kind = Quality
    queryset = Quality.objects.all()
    serializer_class = QualitySerializer


class QualityRevisions(_Revisions):
    kind = Quality


class ImportSerializer(UploadSerializer):
    gcode = serializers.BooleanField(default=False, help_text="take over start and end G-code, too")


class ImportedSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=ProfileRevision.Kind.choices)
    id = serializers.UUIDField()
    name = serializers.CharField()
    ignored = serializers.ListField(child=serializers.CharField(), help_text="settings that have no counterpart here")
    notes = serializers.ListField(child=serializers.CharField())


class ImportProfiles(FarmView):
    """Take over printer profiles, materials and qualities from PrusaSlicer: a config bundle, an ini, or a G-code file
    of it. Needs the right to operate a printer."""

    parser_classes = [MultiPartParser]

    @extend_schema(
        request={"multipart/form-data": ImportSerializer},
        responses={
            201: inline_serializer(
                "Import",
                {
                    "made": ImportedSerializer(many=True),
                    "refused": serializers.ListField(child=serializers.CharField(), help_text="sentences"),
                },
            )
        },
    )
    def post(self, request: Request) -> Response:
        may_operate(person(request))
        serializer = ImportSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        text = services.text_of(serializer.validated_data["file"])
        imported = profiles.import_ini(text, serializer.validated_data["gcode"])
        made = [
            {"kind": row.kind, "id": row.pk, "name": row.name, "ignored": draft.ignored, "notes": draft.notes}
            for row, draft in imported.made
        ]
        return Response({"made": ImportedSerializer(made, many=True).data, "refused": imported.refused}, status=201)


class Settings(FarmView):
    """Every setting of a slice, with its default, unit, range and meaning."""

    @extend_schema(responses=SettingSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(presets.described())


class Engines(FarmView):
    """What slices here, and whether it is there."""

    @extend_schema(responses=EngineSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(making.engines())


class Models(FarmView, GenericAPIView[Model3D]):
    """Uploaded models: own ones; staff see all."""

    serializer_class = ModelSerializer
    queryset = Model3D.objects.none()
    parser_classes = [MultiPartParser]
    filterset_fields = ["name", "kind", "watertight"]

    def get(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(own_models(person(request))))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request={"multipart/form-data": UploadSerializer}, responses={201: ModelSerializer})
    def post(self, request: Request) -> Response:
        serializer = UploadSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        model = services.accept_model(person(request), serializer.validated_data["file"])
        return Response(ModelSerializer(model).data, status=201)


class OneModel(FarmView):
    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(ModelSerializer(_own_model(request, pk)).data)


class StandSerializer(serializers.Serializer[Any]):
    """A way to put a model down."""

    rotation = serializers.ListField(child=serializers.FloatField(), help_text="degrees, for a job's placement")
    contact_mm2 = serializers.FloatField(help_text="that touch the bed")
    overhang_mm2 = serializers.FloatField(help_text="that need supports")
    height_mm = serializers.FloatField()


class ModelStands(FarmView):
    """Flat sides that a model could stand on, the best first."""

    @extend_schema(responses=StandSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        found = services.standing(_own_model(request, pk), {})["stands"]
        return Response(StandSerializer(found, many=True).data)


class ModelFile(FarmView):
    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> StreamingHttpResponse:
        model = _own_model(request, pk)
        return download(Path(model.file.path), model.name)


class ModelPicture(PictureView):
    """What the model looks like."""

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        model = _own_model(request, pk)
        return picture(request, gallery.picture(model.picture), model.sha256)


class ModelShape(PictureView):
    """The surface of the model for a browser that turns it: see slicing/shape.py for the bytes. Large models are made
    coarser."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        model = _own_model(request, pk)
        return view(request, gallery.shape(model), f"{model.sha256}-{gallery.SHAPE_REVISION}")


def _own_model(request: Request, pk: Any) -> Model3D:
    model = own_models(person(request)).filter(pk=pk).first()
    if model is None:
        raise NotFound("There is no such model, or you may not see it.")
    return model


class Gcodes(FarmView, GenericAPIView[Gcode]):
    """Uploaded G-code: own files; staff see all. Uploading needs the right to operate a printer."""

    serializer_class = GcodeSerializer
    queryset = Gcode.objects.none()
    parser_classes = [MultiPartParser]
    filterset_fields = ["name", "profile"]

    def get(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(own_gcodes(person(request))))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request={"multipart/form-data": GcodeUploadSerializer}, responses={201: GcodeSerializer})
    def post(self, request: Request) -> Response:
        may_operate(person(request))
        serializer = GcodeUploadSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data.get("profile")
        user = person(request)
        profile = profiles.get(user, PrinterProfile, wanted) if wanted else profiles.default_profile()
        gcode = services.accept_gcode(person(request), serializer.validated_data["file"], profile)
        return Response(GcodeSerializer(gcode).data, status=201)


class OneGcode(FarmView):
    @extend_schema(responses=GcodeSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(GcodeSerializer(_own_gcode(request, pk)).data)


class GcodePicture(PictureView):
    """The picture that its slicer put into the file."""

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        return gcode_picture(request, _own_gcode(request, pk))


class GcodeLayer(PictureView):
    """The lines of one layer, coloured by what they are for; the lowest is 1."""

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID, number: int) -> HttpResponse:
        return layer_picture(request, _own_gcode(request, pk), number)


class GcodeToolpaths(PictureView):
    """All layers as lines in space, made coarser until a phone can show them: see slicing/toolpaths.py for the
    bytes."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        return toolpaths(request, _own_gcode(request, pk))


class GcodeLayerToolpaths(PictureView):
    """The lines of one layer exactly, and its travels; the lowest is 1."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: UUID, number: int) -> HttpResponse:
        return toolpaths(request, _own_gcode(request, pk), number)


def gcode_picture(request: Request, gcode: Gcode) -> HttpResponse:
    return picture(request, gallery.picture(gcode.picture), gcode.sha256)


def layer_picture(request: Request, gcode: Gcode, number: int) -> HttpResponse:
    return picture(request, gallery.layer(gcode, number), f"{gcode.sha256}-{number}-{gallery.REVISION}")


def toolpaths(request: Request, gcode: Gcode, number: int | None = None) -> HttpResponse:
    return view(request, gallery.toolpaths(gcode, number), f"{gcode.sha256}-{number or 'all'}-{gallery.REVISION}-paths")


def _own_gcode(request: Request, pk: UUID) -> Gcode:
    gcode = own_gcodes(person(request)).filter(pk=pk).first()
    if gcode is None:
        raise NotFound("There is no such G-code, or you may not see it.")
    return gcode
