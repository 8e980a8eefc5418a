from __future__ import annotations

import pytest

from printers.console import may_extrude, refusal
from slicing.engines.base import Machine

MACHINE = Machine(max_nozzle_temperature=260, max_bed_temperature=100)


@pytest.mark.parametrize(
    "line",
    [
        "G28",
        "g28 x y",
        "G1 X10 Y10 F3000",
        "G1X10Y10",
        "N10 G1 X5",
        "M104 S210",
        "M104 S0",
        "M109 R60",
        "M140 S100",
        "M190 S60",
        "M106 S255",
        "M117 Printer 3",
        "M84",
        "T0",
        "; only a comment",
        "",
        "G28 ; home M112",
        "STATUS",
        "bed_mesh_calibrate",
        "BED_MESH_CALIBRATE PROFILE=default",
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET=210",
        "SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET=60.5",
        "TURN_OFF_HEATERS",
        "SET_PRESSURE_ADVANCE ADVANCE=0.05",
    ],
)
def test_it_lets_through_what_moves_heats_and_reads(line: str) -> None:
    assert refusal([line], MACHINE) is None


@pytest.mark.parametrize(
    "line",
    [
        "M23 gift.gco",
        "M24",
        "M32 gift.gco",
        "M28 evil.gco",
        "m24",
        " M24",
        "M024",
        "M24;",
        "N10 M24",
        "N10M24",
        "M24 S0",
        "M30 gift.gco",
        "M928 log.gco",
        "M500",
        "M502",
        "M92 E1000",
        "M302 P1",
        "M303 E0 S200 C8",
        "M112",
        "M997",
        "M999",
        "M851 Z-9",
        "M211 S0",
        "M42 P10 S255 I1",
        "M43 T",
        "SDCARD_PRINT_FILE FILENAME=gift.gcode",
        "sdcard_print_file filename=gift.gcode",
        "SAVE_CONFIG",
        "RUN_SHELL_COMMAND CMD=rm",
        "SET_KINEMATIC_POSITION Z=0",
        "FIRMWARE_RESTART",
        "MY_MACRO",
        "@pause",
        "/M24",
        "$H",
        "(M24)",
        "%",
    ],
)
def test_it_starts_no_print_and_changes_nothing_that_stays(line: str) -> None:
    assert refusal([line], MACHINE)


@pytest.mark.parametrize(
    "line",
    [
        "M104 S261",
        "M104S400",
        "M109 R300",
        "M104 T1 S300",
        "M104 S200 S400",
        "M104 S 400",
        "M104 S-5",
        "M104 S+400",
        "M104 S.4e3",
        "M104 S",
        "M104 S200 B400 F1",
        "M0104 S400",
        "n5 m109 s400",
        "M140 S101",
        "M190 R120",
        "M141 S101",
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET=261",
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET=1e3",
        'SET_HEATER_TEMPERATURE HEATER=extruder TARGET="400"',
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET='400'",
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET=inf",
        'SET_HEATER_TEMPERATURE HEATER=extruder TAR"GET"=400',
        "SET_HEATER_TEMPERATURE HEATER=extruder TAR\\GET=400",
        "SET_HEATER_TEMPERATURE HEATER=extruder TARGET= 400",
        "SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET=101",
        "SET_HEATER_TEMPERATURE TARGET=101 HEATER=heater_bed",
        "TEMPERATURE_WAIT SENSOR=extruder MINIMUM=400",
    ],
)
def test_it_heats_nothing_beyond_the_machines_limits(line: str) -> None:
    assert refusal([line], MACHINE)


def test_it_says_which_limit() -> None:
    assert refusal(["M104 S300"], MACHINE) == "300 C is outside this printer's 0 to 260 C for the nozzle."
    assert refusal(["G28", "M140 S120"], MACHINE) == "120 C is outside this printer's 0 to 100 C for the bed."
    assert refusal(["M141 S101"], MACHINE) == "101 C is outside this printer's 0 to 100 C for the chamber."


@pytest.mark.parametrize("line", ["G28\nM24", "G28\rM24", "G28\x0bM24", "G28\u2028M24", "G28\x00", "G1 " + "X" * 200])
def test_a_line_is_one_line(line: str) -> None:
    assert refusal([line], MACHINE) == "A line has at most 200 characters and no control characters."


def test_one_bad_line_refuses_all() -> None:
    assert refusal(["G28", "M24", "G1 X5"], MACHINE) == "M24 may not be sent from the console."


@pytest.mark.parametrize("count", [0, 51])
def test_it_takes_one_to_fifty_lines(count: int) -> None:
    assert refusal(["G28"] * count, MACHINE) == "Send between 1 and 50 lines."
    assert refusal(["G28"] * 50, MACHINE) is None


@pytest.mark.parametrize(
    "line", ["G1 E5 F300", "g1x10y10e.5", "N4 G01 E1", "G3 X1 Y1 I2 E3", "G11", "M701", "M600 ; change", "G0 E1"]
)
def test_it_knows_what_may_bring_filament_out(line: str) -> None:
    assert may_extrude(["G28", line])


@pytest.mark.parametrize(
    "line", ["G28", "G1 X10 ; not E5", "G92 E0", "M104 S200", "G10", "M117 E", "M82", "G29 E1", ""]
)
def test_it_knows_what_leaves_nothing_on_the_bed(line: str) -> None:
    assert not may_extrude([line])
