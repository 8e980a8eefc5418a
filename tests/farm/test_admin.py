from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.urls import reverse

from farm.models import User
from tests.cast import Cast, as_, attempt, gcode, job, person

pytestmark = pytest.mark.django_db
ROOMS = ("farm", "slicing", "printers", "jobs")
OURS = [model for room in ROOMS for model in apps.get_app_config(room).get_models() if not model._meta.auto_created]


@pytest.fixture
def cast() -> Cast:
    return Cast()


def path(model: Any, view: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=args)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_model_is_there_for_staff_and_for_nobody_else(cast: Cast, model: Any) -> None:
    attempt(job(cast.sam, gcode=gcode(cast.anvil)), cast.anvil)
    assert model in admin.site._registry
    assert as_(cast.ada).get(path(model, "changelist")).status_code == 200
    for user in (cast.sam, cast.olivia):
        answer = as_(user).get(path(model, "changelist"))
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_rows_and_forms_open(cast: Cast, model: Any) -> None:
    attempt(job(cast.sam, gcode=gcode(cast.anvil)), cast.anvil)
    row = model._default_manager.first()
    client = as_(cast.ada)
    if row is not None:
        assert (
            client.get(reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_change", args=[row.pk])).status_code
            == 200
        )
    if admin.site._registry[model].has_add_permission(client.get("/admin/").wsgi_request):
        assert client.get(path(model, "add")).status_code == 200


def test_the_relaxed_policy_is_for_the_admin_only(cast: Cast) -> None:
    client = as_(cast.ada)
    scripts = client.get("/admin/")["Content-Security-Policy"].partition("script-src ")[2].partition(";")[0]
    assert scripts == "'self' 'unsafe-eval'"
    assert "unsafe" not in client.get("/")["Content-Security-Policy"]


# -- people
def user_form(**changes: Any) -> dict[str, Any]:
    return {"username": "sam", "first_name": "Sam", "last_name": "", "email": "", "is_active": "on", **changes}


def test_staff_put_people_into_groups(cast: Cast) -> None:
    students = Group.objects.create(name="Students")
    answer = as_(cast.ada).post(f"/admin/farm/user/{cast.sam.pk}/change/", user_form(groups=[students.pk]))
    assert answer.status_code == 302
    assert list(cast.sam.groups.all()) == [students]


def test_staff_add_people(cast: Cast) -> None:
    client = as_(cast.ada)
    form = {"username": "vera", "first_name": "Vera", "password1": "first-layer-42", "password2": "first-layer-42"}
    shown = client.get("/admin/farm/user/add/").content.decode()
    assert [name for name in form if f'name="{name}"' not in shown] == []
    assert client.post("/admin/farm/user/add/", form).status_code == 302
    vera = User.objects.get(username="vera")
    assert vera.check_password("first-layer-42")
    assert not vera.is_staff


def test_staff_make_nobody_mightier(cast: Cast) -> None:
    form = user_form(is_staff="on", is_superuser="on")
    assert as_(cast.ada).post(f"/admin/farm/user/{cast.sam.pk}/change/", form).status_code == 302
    cast.sam.refresh_from_db()
    assert not cast.sam.is_staff
    assert not cast.sam.is_superuser


def test_staff_do_not_touch_each_other(cast: Cast) -> None:
    other = person("bert", is_staff=True)
    client = as_(cast.ada)
    assert client.post(f"/admin/farm/user/{other.pk}/change/", user_form(username="bert")).status_code == 403
    assert client.get(f"/admin/farm/user/{other.pk}/password/").status_code == 403
    assert client.get(f"/admin/farm/user/{cast.sam.pk}/delete/").status_code == 403


def test_superusers_make_staff(cast: Cast) -> None:
    root = person("root", is_staff=True, is_superuser=True)
    assert as_(root).post(f"/admin/farm/user/{cast.sam.pk}/change/", user_form(is_staff="on")).status_code == 302
    assert User.objects.get(pk=cast.sam.pk).is_staff


def test_a_group_is_given_no_permissions_of_django(cast: Cast) -> None:
    assert as_(cast.ada).post("/admin/auth/group/add/", {"name": "Guests", "permissions": ["1"]}).status_code == 302
    assert not Group.objects.get(name="Guests").permissions.exists()
