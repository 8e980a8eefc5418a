"""Printer profiles, materials and qualities: what they say together, who sees them, every revision of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group

from farm.errors import FarmError, Invalid, NotFound
from slicing import presets, profiles
from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.replay import parse
from slicing.engines.templates import Place, end_gcode, start_gcode
from slicing.models import Material, PrinterProfile, ProfileRevision, Quality
from slicing.presets import Recipe, resolve
from slicing.services import make_settings
from tests.cast import Cast, person

MACHINE = Machine(name="Anvil")


def recipe(quality: dict[str, Any] | None = None, material: dict[str, Any] | None = None, **overrides: Any) -> Recipe:
    return Recipe(quality=quality or {}, material=material or {}, overrides=overrides)


# -- what they say together
def test_without_anything_said_the_engines_defaults_hold() -> None:
    assert resolve(MACHINE, {}, presets.NOTHING_SPECIAL) == SliceSettings()


def test_each_layer_lies_over_the_one_before() -> None:
    usual = {"print_speed": 80.0, "retract_length": 5.0, "travel_speed": 200.0}
    quality = {"print_speed": 60.0, "retract_length": 4.0, "walls": 3}
    material = {"retract_length": 3.0, "nozzle_temperature": 240.0}
    made = resolve(MACHINE, usual, recipe(quality, material, nozzle_temperature=230.0))
    assert (made.travel_speed, made.print_speed, made.walls) == (200.0, 60.0, 3)
    assert (made.retract_length, made.nozzle_temperature) == (3.0, 230.0)


def test_who_asks_for_a_temperature_means_the_first_layer_too_unless_they_name_it() -> None:
    material = {
        "nozzle_temperature": 240.0, "first_layer_nozzle_temperature": 230.0,
        "bed_temperature": 90.0, "first_layer_bed_temperature": 85.0,
    }  # fmt: skip
    usual = resolve(MACHINE, {}, recipe({}, material))
    assert (usual.first_heat, usual.later_heat) == ((230, 85), (240, 90))
    hotter = resolve(MACHINE, {}, recipe({}, material, nozzle_temperature=250.0))
    assert (hotter.first_heat, hotter.later_heat) == ((250, 85), (250, 90))
    both = resolve(MACHINE, {}, recipe({}, material, bed_temperature=70.0, first_layer_bed_temperature=75.0))
    assert (both.first_heat, both.later_heat) == ((230, 75), (240, 70))


def test_what_profiles_wish_to_be_faster_is_slowed_to_what_the_machine_can() -> None:
    slow = Machine(name="Snail", max_speed=(70.0, 60.0, 5.0, 20.0))
    made = resolve(slow, {"travel_speed": 200.0}, recipe({"print_speed": 100.0}))
    assert (made.travel_speed, made.print_speed, made.retract_speed) == (60.0, 60.0, 20.0)
    assert resolve(slow, {}, recipe(print_speed=100.0)).print_speed == 100.0  # somebody asked for it by name


def test_rubber_is_printed_no_faster_than_it_melts() -> None:
    made = resolve(MACHINE, {}, recipe({"layer_height": 0.3, "first_layer_height": 0.3}, {"max_flow": 3.0}))
    assert made.print_speed == pytest.approx(3.0 / (0.45 * 0.3), abs=0.1)
    assert made.travel_speed == 130.0
    assert resolve(MACHINE, {}, recipe({}, {"max_flow": 3.0}, max_flow=0.0)).print_speed == 50.0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (recipe(cheese=1), "Unknown settings: cheese"),
        (recipe({"layer_height": "thick"}), "layer_height must be between"),
        (recipe(walls=2.5), "walls must be a whole number"),
        (recipe(seam="left"), "seam must be one of"),
        (recipe(spiral_vase=1), "spiral_vase must be one of"),
        (recipe({"nozzle_diameter": 0.6}), "nozzle_diameter must be 0.4: Anvil"),
        (recipe({}, {"filament_diameter": 2.85}), "filament_diameter must be 1.75: Anvil"),
        (recipe({}, {"nozzle_temperature": 300.0}), "nozzle_temperature 300 C is above Anvil's 285 C"),
        (recipe(bed_temperature=120.0), "bed_temperature 120 C is above Anvil's 110 C"),
        (
            recipe({}, {"first_layer_bed_temperature": 115.0}),
            "first_layer_bed_temperature 115 C is above Anvil's 110 C",
        ),
        (recipe(first_layer_nozzle_temperature=290.0), "first_layer_nozzle_temperature 290 C is above Anvil's 285 C"),
        (recipe(layer_height=0.5), "nozzle of 0.4 mm"),
        (recipe(first_layer_height=0.5), "nozzle of 0.4 mm"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_name(wanted: Recipe, words: str) -> None:
    with pytest.raises(SlicingError, match=words):
        resolve(MACHINE, {}, wanted)


def test_every_setting_is_described_and_belongs_to_a_material_or_a_quality() -> None:
    described = presets.described()
    assert {row["name"] for row in described} == set(presets.SETTINGS)
    assert all(row["meaning"] for row in described)
    assert all(row["low"] <= row["default"] <= row["high"] for row in described if not row["options"])
    assert set(presets.MATERIAL_FIELDS) | set(presets.QUALITY_FIELDS) == set(presets.SETTINGS)
    assert set(presets.PRINTER_FIELDS) <= set(presets.SETTINGS)


# -- shipped
@pytest.mark.django_db
def test_every_shipped_material_in_every_quality_is_possible_on_every_shipped_machine() -> None:
    machines = list(PrinterProfile.objects.all())
    assert len(machines) >= 9
    for machine in machines:
        for material in map(profiles.latest, Material.objects.all()):
            for quality in map(profiles.latest, Quality.objects.all()):
                made = make_settings(machine, {}, material, quality)
                assert made.print_speed <= machine.max_speed_x


@pytest.mark.django_db
def test_the_code_of_every_shipped_machine_stays_on_its_bed() -> None:
    for row in PrinterProfile.objects.all():
        machine = row.machine
        middle = (machine.origin[0] + machine.size[0] / 2, machine.origin[1] + machine.size[1] / 2)
        place = Place(middle, (middle[0] + 20, middle[1] + 20), 30.0, 150)
        settings = make_settings(row, {})
        code = start_gcode(machine, settings, place) + end_gcode(machine, settings, place)
        moves = parse(code.encode(), relative_e=True)
        assert (moves.position >= [*machine.origin, 0]).all(), row
        assert (moves.position <= [*(o + s for o, s in zip(machine.origin, machine.size, strict=False)), 250]).all()
        assert max(moves.nozzle) == settings.nozzle_temperature


@pytest.mark.django_db
def test_the_defaults_print_what_was_printed_before_there_were_profiles_with_a_hotter_first_layer() -> None:
    anybody = person("anybody")
    material, quality = profiles.chosen(anybody, Material, None), profiles.chosen(anybody, Quality, None)
    assert material is not None
    assert quality is not None
    assert (material.name, quality.name) == ("PLA", "Standard")
    made = make_settings(profiles.default_profile(), {}, material, quality)
    assert made == SliceSettings(max_flow=15.0, first_layer_nozzle_temperature=215.0)


# -- who sees what
@pytest.fixture
def exotic(db: None) -> Material:
    """For one group only."""
    made = profiles.add_profile(Material, name="PEEK", settings={"nozzle_temperature": 280.0})
    made.groups.add(Group.objects.create(name="Trained"))
    return made


def test_what_is_for_a_group_is_seen_by_it_and_by_staff(exotic: Material) -> None:
    sam, tina, ada = person("sam"), person("tina"), person("ada", is_staff=True)
    tina.groups.add(Group.objects.get(name="Trained"))
    assert exotic not in profiles.visible(sam, Material)
    with pytest.raises(NotFound, match="no such material"):
        profiles.chosen(sam, Material, exotic.pk)
    for user in (tina, ada):
        assert list(profiles.visible(user, Material)).count(exotic) == 1
        assert profiles.chosen(user, Material, str(exotic.pk)) == profiles.latest(exotic)


@pytest.mark.django_db
def test_without_a_default_nothing_is_chosen_for_anybody() -> None:
    Material.objects.update(is_default=False)
    assert profiles.chosen(person("sam"), Material, None) is None
    with pytest.raises(NotFound):
        profiles.get(person("tina"), Quality, "nonsense")
    PrinterProfile.objects.update(is_default=False)
    with pytest.raises(FarmError, match="no default printer profile"):
        profiles.default_profile()


# -- revisions
@pytest.mark.django_db
def test_a_change_of_what_decides_a_print_is_a_revision_and_the_old_one_is_kept() -> None:
    made = profiles.add_profile(PrinterProfile, name="Forge", width=300.0)
    profiles.change_profile(made, width=310.0, start_gcode="G28 ; {layers}")
    assert made.revision == 2
    first, second = reversed(profiles.revisions(made))
    assert (first.values["width"], second.values["width"]) == (300.0, 310.0)
    assert second.values["start_gcode"] == "G28 ; {layers}"
    assert set(first.values) >= {"nozzle_diameter", "max_speed_e", "jerk_x", "settings", "flavour"}


@pytest.mark.parametrize("change", [{"name": "Furnace"}, {"engine": "cura"}, {"note": "Hot"}, {"width": 300.0}])
@pytest.mark.django_db
def test_a_change_of_anything_else_is_none(change: dict[str, Any]) -> None:
    made = profiles.add_profile(PrinterProfile, name="Forge", width=300.0)
    profiles.change_profile(made, **change)
    made.refresh_from_db()
    assert (made.revision, profiles.revisions(made).count()) == (1, 1)
    assert all(getattr(made, key) == value for key, value in change.items())


@pytest.mark.django_db
def test_a_deleted_material_leaves_its_revisions() -> None:
    made = profiles.add_profile(Material, name="Wood", settings={"nozzle_temperature": 200.0})
    kept = profiles.latest(made)
    made.delete()
    kept.refresh_from_db()
    assert (kept.kind, str(kept), kept.values) == ("material", "Wood (revision 1)", {"nozzle_temperature": 200.0})


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (Material, {"settings": {"layer_height": 0.2}}, "Unknown settings: layer_height"),
        (Material, {"settings": {"nozzle_temperature": 900}}, "between 0 and 450"),
        (Material, {"settings": []}, "an object of names and values"),
        (Quality, {"settings": {"fan_speed": 10.0}}, "Unknown settings: fan_speed"),
        (PrinterProfile, {"settings": {"walls": 3}}, "Unknown settings: walls"),
        (PrinterProfile, {"start_gcode": "G28 {__import__('os')}"}, "__import__"),
        (PrinterProfile, {"end_gcode": "M84 }"}, "brace"),
        (Material, {"name": "PLA"}, "a material of that name"),
        (Quality, {"is_default": True}, r"\(or a default one\)"),
    ],
)
@pytest.mark.django_db
def test_a_profile_that_makes_no_sense_is_refused(model: Any, values: dict[str, Any], words: str) -> None:
    before = ProfileRevision.objects.count()
    with pytest.raises(Invalid, match=words):
        profiles.add_profile(model, **{"name": "Odd", **values})
    assert ProfileRevision.objects.count() == before
    made = profiles.add_profile(model, name="Even")
    with pytest.raises(Invalid, match=words):
        profiles.change_profile(made, **values)
    assert profiles.revisions(made).count() == 1


@pytest.mark.django_db
def test_one_default_takes_the_place_of_the_other(cast: Cast) -> None:
    fine = Quality.objects.get(name="Fine")
    profiles.make_default(fine)
    assert [row.name for row in Quality.objects.filter(is_default=True)] == ["Fine"]
    assert profiles.chosen(cast.sam, Quality, None) == profiles.latest(fine)
