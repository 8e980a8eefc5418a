"""Who may do what with which printer."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from farm.errors import Forbidden, NotFound
from farm.models import User
from printers import access, services
from printers.models import Grant, Pool, Printer, Role
from slicing.models import PrinterProfile
from tests.cast import Cast, grant, person, printer


def seen(user: User, role: Role = Role.VIEW) -> set[str]:
    return set(access.visible(user, role).values_list("name", flat=True))


def group_of(*members: User, name: str = "year 9") -> Group:
    group = Group.objects.create(name=name)
    group.user_set.add(*members)
    return group


def pool_of(*printers: Printer, name: str = "room 12") -> Pool:
    pool = Pool.objects.create(name=name)
    pool.printers.add(*printers)
    return pool


# -- one person, one printer


@pytest.mark.parametrize(
    ("who", "role"),
    [("mallory", 0), ("sam", Role.SUBMIT), ("olivia", Role.OPERATE), ("ada", Role.MANAGE)],
    ids=["stranger", "student", "operator", "teacher"],
)
def test_each_role_includes_the_ones_before_and_no_more(cast: Cast, who: str, role: int) -> None:
    user = getattr(cast, who)
    assert access.role_on(user, cast.anvil) == role
    for wanted in Role:
        if role >= wanted:
            assert access.get(user, cast.anvil.pk, wanted) == cast.anvil
        else:
            with pytest.raises(NotFound if not role else Forbidden):
                access.get(user, cast.anvil.pk, wanted)


def test_staff_see_every_printer_and_others_what_they_were_given(cast: Cast) -> None:
    assert seen(cast.ada) == {"Anvil", "Cellar"}
    assert seen(cast.sam) == {"Anvil"}
    assert seen(cast.mallory) == set()


def test_what_may_be_seen_is_asked_for_a_role(cast: Cast) -> None:
    grant(cast.sam, cast.cellar, Role.VIEW)
    assert seen(cast.sam) == {"Anvil", "Cellar"}
    assert seen(cast.sam, Role.SUBMIT) == {"Anvil"}
    assert seen(cast.sam, Role.OPERATE) == set()


@pytest.mark.parametrize("pk", [uuid4(), "not-an-id", "", None, 17, "../anvil"])
def test_a_printer_that_is_not_there_looks_like_one_that_may_not_be_seen(cast: Cast, pk: Any) -> None:
    with pytest.raises(NotFound) as missing:
        access.get(cast.ada, pk, Role.VIEW)
    with pytest.raises(NotFound) as hidden:
        access.get(cast.mallory, cast.anvil.pk, Role.MANAGE)
    assert missing.value.message == hidden.value.message
    assert "Anvil" not in hidden.value.message


def test_somebody_who_was_switched_off_may_nothing(cast: Cast) -> None:
    for user in (cast.ada, cast.olivia):
        user.is_active = False
        user.save()
        assert seen(user) == set()
        assert access.role_on(user, cast.anvil) == 0


def test_a_grant_that_is_taken_away_is_gone_at_once(cast: Cast) -> None:
    Grant.objects.filter(user=cast.sam).delete()
    with pytest.raises(NotFound):
        access.get(cast.sam, cast.anvil.pk, Role.VIEW)


def test_whoever_may_only_look_may_not_print(cast: Cast) -> None:
    grant(cast.sam, cast.cellar, Role.VIEW)
    services.require_submit(cast.sam, cast.anvil)
    with pytest.raises(Forbidden, match="Cellar"):
        services.require_submit(cast.sam, cast.cellar)


# -- groups and pools


def test_a_group_gives_its_members_what_it_was_given(cast: Cast) -> None:
    group = group_of(cast.mallory)
    Grant.objects.create(group=group, printer=cast.anvil, role=Role.OPERATE)
    assert access.role_on(cast.mallory, cast.anvil) == Role.OPERATE
    group.user_set.remove(cast.mallory)
    assert access.role_on(cast.mallory, cast.anvil) == 0


def test_a_pool_gives_all_its_printers_and_only_those(cast: Cast) -> None:
    attic = printer("Attic", by=cast.ada)
    pool = pool_of(cast.cellar, attic)
    Grant.objects.create(user=cast.mallory, pool=pool, role=Role.SUBMIT)
    assert seen(cast.mallory) == {"Cellar", "Attic"}
    pool.printers.remove(attic)
    assert seen(cast.mallory) == {"Cellar"}


def test_a_groups_pool_reaches_its_members(cast: Cast) -> None:
    Grant.objects.create(group=group_of(cast.mallory), pool=pool_of(cast.cellar), role=Role.SUBMIT)
    assert access.get(cast.mallory, cast.cellar.pk, Role.SUBMIT) == cast.cellar
    assert seen(cast.sam) == {"Anvil"}, "others are not in the group"


def test_of_many_ways_to_one_printer_the_strongest_counts_and_it_is_listed_once(cast: Cast) -> None:
    group, pool = group_of(cast.sam), pool_of(cast.anvil, cast.cellar)
    Grant.objects.create(user=cast.sam, pool=pool, role=Role.VIEW)
    Grant.objects.create(group=group, printer=cast.anvil, role=Role.OPERATE)
    Grant.objects.create(group=group, pool=pool_of(cast.anvil, name="all"), role=Role.VIEW)
    assert access.roles(cast.sam, [cast.anvil, cast.cellar]) == {
        cast.anvil.pk: Role.OPERATE,
        cast.cellar.pk: Role.VIEW,
    }
    assert [found.name for found in access.visible(cast.sam)] == ["Anvil", "Cellar"]


def test_roles_on_many_printers_cost_two_questions(cast: Cast, django_assert_max_num_queries: Any) -> None:
    printers = [printer(f"P{n}", by=cast.ada) for n in range(8)]
    Grant.objects.create(user=cast.sam, pool=pool_of(*printers), role=Role.SUBMIT)
    with django_assert_max_num_queries(2):
        assert len(access.roles(cast.sam, printers)) == 8


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"printer": True, "pool": True, "user": True},
        {"printer": True, "user": True, "group": True},
        {"printer": True},
        {"user": True},
    ],
    ids=["nothing", "printer and pool", "person and group", "nobody", "on nothing"],
)
def test_a_grant_is_for_one_and_on_one(cast: Cast, fields: dict[str, bool]) -> None:
    rows: dict[str, Any] = {
        "user": cast.mallory,
        "group": group_of(),
        "printer": cast.anvil,
        "pool": pool_of(cast.anvil),
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.create(role=Role.VIEW, **{name: rows[name] for name in fields})


def test_a_second_grant_on_the_same_is_refused(cast: Cast) -> None:
    second = Grant(user=cast.sam, printer=cast.anvil, role=Role.MANAGE)
    with pytest.raises(ValidationError):
        second.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        second.save()


# -- asked from the rooms below


def test_rooms_below_ask_by_a_permissions_name(cast: Cast) -> None:
    assert cast.olivia.has_perm("printers.operate")
    assert not cast.olivia.has_perm("printers.manage")
    assert not cast.sam.has_perm("printers.operate")
    assert cast.sam.has_perm("printers.submit")
    assert not cast.mallory.has_perm("printers.view")
    assert not cast.sam.has_perm("printers.no_such_role")
    assert not AnonymousUser().has_perm("printers.view")


def test_a_profile_is_for_those_who_have_the_role_on_every_printer_of_it(cast: Cast) -> None:
    profile: PrinterProfile = cast.anvil.profile
    grant(person("meg"), cast.anvil, Role.MANAGE)
    meg = User.objects.get(username="meg")
    assert not meg.has_perm("printers.manage", profile), "Cellar is of that profile too"
    grant(meg, cast.cellar, Role.MANAGE)
    assert meg.has_perm("printers.manage", profile)


# -- everybody, some printers


def test_who_is_on_a_printer_is_who_sees_it(cast: Cast) -> None:
    """`people_on` turns `visible` around: by name, by group, by pool, as staff."""
    gus, pia = person("gus"), person("pia")
    gone = person("gone", is_active=False)
    grant(gone, cast.cellar, Role.MANAGE)
    Grant.objects.create(group=group_of(gus), printer=cast.cellar, role=Role.SUBMIT)
    Grant.objects.create(user=pia, pool=pool_of(cast.cellar), role=Role.OPERATE)
    everybody = User.objects.all()
    for role in (Role.VIEW, Role.SUBMIT, Role.OPERATE, Role.MANAGE):
        for one in (cast.anvil, cast.cellar):
            found = set(access.people_on([one.pk], role))
            assert found == {user for user in everybody if one.name in seen(user, role)}, (role, one)


def test_nobody_is_on_no_printer(cast: Cast) -> None:
    assert not access.people_on([], Role.VIEW).exists()
