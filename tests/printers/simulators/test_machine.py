"""The machine of arithmetic, with time handed in by the test."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printers.simulators.machine import Command, Halted, Machine, MachineError, estimate, parse

HOMED = "G28\n"


class Listening(Machine):
    """Keeps what it reported."""

    def __init__(self, **options: Any) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        super().__init__(report=lambda kind, details: self.heard.append((kind, details)), **options)

    def names(self) -> list[str]:
        return [kind for kind, _ in self.heard if kind.startswith("job")]


def moves(count: int, seconds: float = 1.0) -> bytes:
    """Moves of 10 mm that take so long each."""
    feed = 600 / seconds
    return "".join(f"G1 X{10 * (n % 2)} F{feed:g}\n" for n in range(1, count + 1)).encode()


# -- reading G-code


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),
        ("   ; only a comment", None),
        ("G1 X1.5 Y-2 E.25 ; draw", Command("G1", {"X": 1.5, "Y": -2.0, "E": 0.25}, "X1.5 Y-2 E.25")),
        ("g01 x3", Command("G1", {"X": 3.0}, "x3")),
        ("M117 Layer 3 of 9", Command("M117", {"R": 3.0, "F": 9.0}, "Layer 3 of 9")),
        ('set_pin PIN="a"', Command("SET_PIN", {}, 'PIN="a"')),
    ],
)
def test_it_reads_a_line(line: str, expected: Command | None) -> None:
    assert parse(line) == expected


@given(st.text(max_size=40) | st.from_regex(r"[GMT]\d{1,3}( [XYZEFSPT]-?\d{1,4}(\.\d)?){0,5}", fullmatch=True))
def test_any_line_is_carried_out_or_refused(line: str) -> None:
    machine = Machine(strict=True)
    try:
        wait = machine.perform(line)
    except MachineError:
        return
    assert isinstance(wait, str) or wait >= 0


# -- time


def test_a_move_takes_its_distance_by_its_feed_rate() -> None:
    machine = Machine()
    assert machine.perform("G1 X30 Y40 F3000") == pytest.approx(1.0)  # 50 mm at 50 mm/s
    assert machine.perform("G1 E60") == pytest.approx(1.2)


def test_half_speed_takes_twice_as_long() -> None:
    machine = Machine()
    machine.perform("M220 S50")
    assert machine.perform("G1 X50 F3000") == pytest.approx(2.0)


def test_time_that_is_left_over_goes_to_the_next_line() -> None:
    machine = Listening()
    machine.start(moves(10))
    machine.advance(2.5)
    assert machine.job is not None
    assert machine.job.position == len(moves(3))
    machine.advance(0.6)
    assert machine.job.position == len(moves(4))


def test_many_small_steps_and_one_large_step_end_alike() -> None:
    slow, fast = Listening(), Listening()
    for machine in (slow, fast):
        machine.start(b"M104 S200\n" + moves(10))
    for _ in range(100):
        slow.advance(0.11)
    fast.advance(11.0)
    assert slow.names() == fast.names() == ["job_done"]
    assert slow.position == fast.position
    assert slow.heaters["tool0"].actual == pytest.approx(fast.heaters["tool0"].actual)


def test_the_end_of_a_file_comes_with_the_end_of_its_last_line() -> None:
    machine = Listening()
    machine.start(moves(3))
    machine.advance(2.99)
    assert machine.names() == []
    machine.advance(0.02)
    assert machine.names() == ["job_done"]
    assert machine.job is None


def test_an_empty_file_is_done_at_once() -> None:
    machine = Listening()
    machine.start(b"")
    machine.advance(0.0)
    assert machine.names() == ["job_done"]


# -- heat


def test_a_heater_warms_in_a_straight_line_and_stays() -> None:
    machine = Machine(ambient=20.0, heat_rate=10.0)
    machine.perform("M104 S60")
    machine.advance(2.0)
    assert machine.heaters["tool0"].actual == pytest.approx(40.0)
    machine.advance(10.0)
    assert machine.heaters["tool0"].actual == pytest.approx(60.0)
    machine.perform("M104 S0")
    machine.advance(1000.0)
    assert machine.heaters["tool0"].actual == pytest.approx(20.0)


def test_a_print_waits_for_its_heaters() -> None:
    machine = Listening(ambient=20.0)
    machine.start(b"M190 S60\nM109 S200\n" + moves(1))
    machine.advance(3.0)
    assert machine.heaters["tool0"].target == 0, "the nozzle waits behind the bed"
    machine.advance(1.0 + 18.0)
    assert machine.job is not None
    machine.advance(1.0)
    assert machine.names() == ["job_done"]


def test_a_wait_ends_when_somebody_turns_the_heater_down() -> None:
    machine = Listening(ambient=20.0)
    machine.start(b"M109 S200\n" + moves(1))
    machine.advance(1.0)
    machine.heat("tool0", 0.0)
    machine.advance(1.0)
    assert machine.names() == ["job_done"]


def test_the_right_tool_is_heated() -> None:
    machine = Machine(tools=2)
    machine.perform("M104 T1 S50")
    machine.perform("T1")
    machine.perform("M104 S60")
    assert [machine.heaters[name].target for name in ("tool0", "tool1")] == [0.0, 60.0]


# -- filament


@pytest.mark.parametrize("lines", ["M82\nG92 E0\nG1 E5\nG1 E4\nG92 E0\nG1 E2", "M83\nG1 E5\nG1 E-1\nG1 E2"])
def test_filament_is_counted_net_of_retractions(lines: str) -> None:
    machine = Machine()
    for line in lines.split("\n"):
        machine.perform(line)
    assert machine.extruded == pytest.approx(6.0)


def test_filament_stays_counted_over_a_reset() -> None:
    machine = Machine()
    machine.perform("G1 E5")
    machine.reset()
    assert machine.extruded == 5.0


# -- pause, cancel, commands from outside


def test_a_hold_takes_effect_when_the_running_line_has_ended() -> None:
    machine = Listening()
    machine.start(moves(5))
    machine.advance(1.5)
    machine.hold()
    assert machine.names() == []
    machine.advance(0.5)
    assert machine.names() == ["job_held"]
    machine.advance(100.0)
    assert machine.job is not None
    assert machine.job.position == len(moves(2))
    machine.release()
    machine.advance(3.0)
    assert machine.names() == ["job_held", "job_done"]


def test_a_dropped_job_says_nothing_more() -> None:
    machine = Listening()
    machine.start(b"M109 S200\n" + moves(5))
    machine.advance(0.5)
    machine.drop_job(interrupt=True)
    machine.advance(100.0)
    assert machine.names() == []
    assert not machine.busy


def test_a_command_waits_for_the_line_that_runs_and_goes_before_the_next() -> None:
    machine = Listening()
    done: list[Any] = []
    machine.start(moves(5))
    machine.advance(0.5)
    machine.run(["M117 hello", "G4 P500"], done.append)
    machine.advance(0.4)
    assert (machine.message, done) == (None, [])
    machine.advance(0.2)
    assert machine.message == "hello"
    machine.advance(0.5)
    assert done == [None]
    assert machine.job is not None
    assert machine.job.position == len(moves(2))


def test_a_refused_command_is_told_to_whoever_sent_it_and_the_print_goes_on() -> None:
    machine = Listening(strict=True)
    told: list[Any] = []
    machine.start(HOMED.encode() + moves(2))
    machine.run(["M104 S999", "M117 never"], told.append)
    machine.advance(100.0)
    assert [str(error) for error in told] == ["Requested temperature (999.0) out of range (0.0:300.0)"]
    assert machine.message is None
    assert machine.names() == ["job_done"]


def test_a_second_file_is_refused_while_one_is_printed() -> None:
    machine = Machine()
    machine.start(moves(1))
    with pytest.raises(MachineError):
        machine.start(moves(1))


# -- failure


def test_strict_firmware_refuses_what_would_break_it() -> None:
    machine = Machine(strict=True, volume=(100.0, 100.0, 100.0))
    with pytest.raises(MachineError, match="Must home axis first"):
        machine.perform("G1 X10")
    machine.perform("G28")
    with pytest.raises(MachineError, match=r"Move out of range: 101.000 0.000 0.000"):
        machine.perform("G1 X101")
    assert machine.position[0] == 0.0


def test_a_refused_line_fails_the_print() -> None:
    machine = Listening(strict=True)
    machine.start(HOMED.encode() + b"G1 X9999\n" + moves(5))
    machine.advance(100.0)
    assert machine.heard[-1][0] == "job_failed"
    assert machine.job is None


def test_failure_can_be_ordered_for_the_middle_of_the_next_print() -> None:
    machine = Listening()
    machine.fail_job("Nozzle clogged", at=0.5)
    machine.start(moves(10))
    machine.advance(4.5)
    assert machine.names() == []
    machine.advance(1.0)
    assert machine.heard[-1] == ("job_failed", {"message": "Nozzle clogged"})
    machine.start(moves(2))
    machine.advance(5.0)
    assert machine.names() == ["job_failed", "job_done"], "it fails once"


def test_halt_turns_everything_off_until_reset() -> None:
    machine = Listening()
    told: list[Any] = []
    machine.start(b"M104 S200\n" + moves(5))
    machine.advance(1.5)
    machine.run(["M117 late"], told.append)
    machine.halt("Emergency stop")
    assert isinstance(told[0], Halted)
    assert machine.heaters["tool0"].target == 0.0
    before = list(machine.position)
    machine.start(moves(1))
    machine.advance(10.0)
    assert machine.position == before
    machine.reset()
    machine.start(moves(1))
    machine.advance(10.0)
    assert machine.names() == ["job_done"]


def test_an_estimate_counts_moves_but_not_heat() -> None:
    found = estimate(b"M109 S200\n" + moves(4, seconds=2.0) + b"G4 S3\nG1 E5 F300\n")
    assert found.seconds == pytest.approx(4 * 2.0 + 3.0 + 1.0)
    assert found.filament_mm == pytest.approx(5.0)
    assert (found.low, found.high) == ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0))
