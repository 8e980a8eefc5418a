from __future__ import annotations

import time
from uuid import uuid4

import pytest

from printers import history, telemetry
from printers.drivers.base import Temperature
from printers.history import COLD_EVERY, KEPT, SILENCE, WARM_EVERY, Heat, Recorder, Sample, columns

PRINTER = uuid4()
WARM = {"tool0": Temperature(actual=209.64, target=210.0), "bed": Temperature(actual=60.2, target=60.0)}
COLD = {"tool0": Temperature(actual=21.3, target=0.0), "chamber": Temperature(actual=None, target=0.0)}


@pytest.fixture(autouse=True)
def _empty() -> None:
    telemetry.client().flushdb()


def note(recorder: Recorder, *states: tuple[float, Heat]) -> None:
    with telemetry.client().pipeline(transaction=False) as pipe:
        for at, heat in states:
            recorder.note(pipe, PRINTER, at, heat)
        pipe.execute()


def test_what_was_noted_is_read_in_its_order() -> None:
    now = time.time()
    note(Recorder(), (now - 20, COLD), (now - 5, WARM))
    before, after = history.read(PRINTER)
    assert before.at == pytest.approx(now - 20, abs=0.1)
    assert before.heat == COLD
    assert after.heat == {"tool0": Temperature(actual=209.6, target=210.0), "bed": WARM["bed"]}


def test_a_hot_machine_is_noted_twice_as_often_as_a_cold_one() -> None:
    start, beats = time.time() - 120, [5 * k + (0.2 if k % 3 else -0.2) for k in range(20)]
    note(Recorder(), *((start + beat, WARM) for beat in beats))
    assert len(history.read(PRINTER)) == 100 / WARM_EVERY
    telemetry.client().flushdb()
    note(Recorder(), *((start + beat, COLD) for beat in beats))
    assert len(history.read(PRINTER)) == 100 / COLD_EVERY


def test_a_machine_without_sensors_is_not_noted() -> None:
    note(Recorder(), (time.time(), {}))
    assert history.read(PRINTER) == []


def test_a_clock_that_was_set_back_does_not_end_the_notes() -> None:
    now, recorder = time.time(), Recorder()
    note(recorder, (now, WARM), (now - 600, WARM))
    assert len(history.read(PRINTER)) == 2


def test_only_half_an_hour_is_kept_and_a_silent_printer_is_forgotten() -> None:
    now = time.time()
    note(Recorder(), *((now - 3 * KEPT + 5 * k, WARM) for k in range(3 * KEPT // 5)))
    assert len(history.read(PRINTER)) == pytest.approx(KEPT / 5, abs=2)
    assert telemetry.client().llen(f"farm:heat:{PRINTER}") < 1.4 * KEPT / 5
    assert 0 < telemetry.client().ttl(f"farm:heat:{PRINTER}") <= KEPT


def test_a_new_bridge_goes_on_where_the_old_one_ended() -> None:
    now = time.time()
    note(Recorder(), (now - 10, WARM))
    note(Recorder(), (now, WARM))
    assert len(history.read(PRINTER)) == 2


def test_a_sample_costs_one_command() -> None:
    pipe, recorder, now = telemetry.client().pipeline(transaction=False), Recorder(), time.time()
    for k in range(40):
        recorder.note(pipe, PRINTER, now + 5 * k, WARM)
    assert len(pipe) == 40 + 2 * 2


def test_columns_are_as_long_as_each_other_whatever_a_machine_reports() -> None:
    shown = columns([Sample(0.0, COLD), Sample(5.0, WARM)])
    assert shown["times"] == [0.0, 5.0]
    assert shown["heaters"]["tool0"] == {"actual": [21.3, 209.64], "target": [0.0, 210.0]}
    assert shown["heaters"]["bed"] == {"actual": [None, 60.2], "target": [None, 60.0]}
    assert shown["heaters"]["chamber"] == {"actual": [None, None], "target": [0.0, None]}


def test_no_line_joins_what_lies_on_both_sides_of_a_silence() -> None:
    shown = columns([Sample(0.0, WARM), Sample(SILENCE + 1, WARM)])
    assert shown["times"] == [0.0, 1.0, SILENCE + 1]
    assert shown["heaters"]["bed"]["actual"] == [60.2, None, 60.2]


def test_of_nothing_there_are_no_columns() -> None:
    assert columns([]) == {"times": [], "heaters": {}}
