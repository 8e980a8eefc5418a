"""/api/printers/actions/: one deed on many printers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from farm.api import FarmView, person
from printers import many


class WishSerializer(serializers.Serializer[Any]):
    printer = serializers.CharField(max_length=36, help_text="its id")
    bed = serializers.IntegerField(required=False, help_text="clear_bed: the number that the printer's state showed")
    print = serializers.UUIDField(required=False, help_text="pause, resume, cancel: the print that is meant")


class ActionsSerializer(serializers.Serializer[Any]):
    action = serializers.ChoiceField(choices=list(many.DEEDS))
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)
    printers = serializers.ListField(child=WishSerializer(), min_length=1, max_length=many.MOST)


class OutcomeSerializer(serializers.Serializer[Any]):
    printer = serializers.CharField(help_text="as it was named")
    name = serializers.CharField(help_text="empty: there is none, or you may not see it")
    done = serializers.BooleanField(help_text="pause, resume, cancel: it was asked for; see the printer's commands")
    code = serializers.CharField(help_text="why not, for programs")
    message = serializers.CharField(help_text="why not, for people")


class Actions(FarmView):
    """The same on many printers, each with its own right and its own outcome: one that is refused stops no other."""

    @extend_schema(
        request=ActionsSerializer,
        responses=inline_serializer("Outcomes", {"results": OutcomeSerializer(many=True)}),
    )
    def post(self, request: Request) -> Response:
        serializer = ActionsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = serializer.validated_data
        wishes = [
            many.Wish(printer=row["printer"], bed=row.get("bed"), print_id=row.get("print"))
            for row in asked["printers"]
        ]
        outcomes = many.act(person(request), asked["action"], wishes, reason=asked["reason"])
        return Response({"results": OutcomeSerializer(outcomes, many=True).data})
