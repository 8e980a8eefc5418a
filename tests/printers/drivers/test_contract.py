"""What the farm relies on, held against the real servers and the simulators alike, so that neither can drift."""

from __future__ import annotations

import re
import threading

import pytest

from printers.drivers.base import (
    Busy,
    Capability,
    Missing,
    Outcome,
    PrinterDriver,
    PrinterStatus,
    Refused,
    Unauthorised,
    Unreachable,
    Unsupported,
)
from tests.peers import wait_for
from tests.printers.drivers.conftest import DEADLINE_S, Bench, Watch, ended_as, idle_after

QUICK, LONG = 10, 6000


# -- who is there


def test_it_says_what_it_is(bench: Bench, driver: PrinterDriver) -> None:
    identity = driver.identify()
    assert identity.software.startswith({"octoprint": "OctoPrint ", "moonraker": "Moonraker "}[bench.kind])
    assert identity.status is PrinterStatus.IDLE
    assert identity.capabilities >= {Capability.PAUSE, Capability.FILES, Capability.EMERGENCY_STOP}
    assert identity.capabilities <= driver.capabilities


@pytest.mark.parametrize("key", ["", "a-wrong-key"])
def test_it_refuses_a_wrong_key_everywhere(bench: Bench, key: str) -> None:
    intruder = bench.driver(api_key=key)
    stop = threading.Event()
    for attempt in (
        intruder.identify,
        intruder.read_state,
        intruder.cancel,
        lambda: intruder.gcode(["M105"]),
        lambda: intruder.delete_file("print-1.gcode"),
        lambda: next(intruder.stream(stop)),
    ):
        with pytest.raises(Unauthorised) as refused:
            attempt()
        assert "a-wrong-key" not in refused.value.message


# -- files


def test_an_upload_arrives_whole_and_is_not_printed(bench: Bench, driver: PrinterDriver) -> None:
    local, sent = bench.gcode(2000), list[int]()
    remote = driver.upload(local, "whole.gcode", sent.append)
    size = local.stat().st_size
    assert remote.size == size
    assert sent[-1] == size
    assert sent == sorted(sent)
    assert driver.find_file(remote.path) == remote
    assert remote in driver.list_files()
    assert driver.read_state().status is PrinterStatus.IDLE


def test_odd_names_survive(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    for name in ("pièce été 日本.gcode", "a+b & c#d%20 (1) 'q'.gcode", "folder/inner part v2.gcode"):
        remote = driver.upload(bench.gcode(QUICK), name)
        assert driver.find_file(remote.path) == remote
        driver.start(remote.path)
        watch.until(idle_after(remote.path, Outcome.COMPLETED))
        driver.delete_file(remote.path)
        assert driver.find_file(remote.path) is None


def test_progress_can_give_an_upload_up(bench: Bench, driver: PrinterDriver) -> None:
    class Enough(Exception):
        pass

    def give_up(sent: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        driver.upload(bench.gcode(LONG), "given-up.gcode", give_up)
    assert driver.find_file("given-up.gcode") is None


def test_deleting_a_file_twice_is_fine(bench: Bench, driver: PrinterDriver) -> None:
    path = bench.send(driver, QUICK)
    driver.delete_file(path)
    driver.delete_file(path)
    assert driver.find_file(path) is None


def test_it_says_how_much_room_is_left(driver: PrinterDriver) -> None:
    free = driver.free_space()
    assert free is not None
    assert free > 0


def test_a_file_that_is_not_there_is_not_found(driver: PrinterDriver) -> None:
    for path in ("nothing-here.gcode", "no/folder/either.gcode", "../etc/passwd", ""):
        assert driver.find_file(path) is None
        assert driver.find_ended(path) is None


# -- printing


def test_a_print_is_seen_from_start_to_end(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path, before = bench.send(driver, 150), driver.marker()
    driver.start(path)
    printing = watch.until_status(PrinterStatus.PRINTING)
    assert printing.job is not None
    assert printing.job.file == path
    further = watch.until(lambda state: state.job is not None and state.job.progress > 0.2)
    assert further.job is not None
    assert 0.2 < further.job.progress <= 1
    ended = watch.until(ended_as(path, Outcome.COMPLETED)).ended
    assert ended is not None
    assert ended.reason == ""
    assert watch.until_status(PrinterStatus.IDLE).job is None
    wait_for("the printer's own record", lambda: driver.find_ended(path) is not None)
    record = driver.find_ended(path)
    assert record is not None
    assert (record.outcome, record.mark) == (Outcome.COMPLETED, ended.mark)
    assert driver.printed_between(before, driver.marker())


def test_a_print_that_ended_while_nobody_listened_is_known_on_connecting(bench: Bench, driver: PrinterDriver) -> None:
    path = bench.send(driver, QUICK)
    driver.start(path)
    wait_for("the end of the print", lambda: driver.find_ended(path) is not None)
    with Watch(driver) as watch:
        first = watch.states[0]
        assert driver.first_marker() == driver.marker()
    assert first.ended is not None
    assert (first.ended.file, first.ended.outcome) == (path, Outcome.COMPLETED)


def test_two_prints_of_one_file_differ_in_their_mark(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path, marks = bench.send(driver, QUICK), []
    for _ in range(2):
        driver.start(path)
        watch.until_status(PrinterStatus.PRINTING)
        ended = watch.until(idle_after(path, Outcome.COMPLETED)).ended
        assert ended is not None
        marks.append(ended.mark)
    assert marks[0] != marks[1]


def test_nothing_printed_is_known_as_nothing_printed(bench: Bench, driver: PrinterDriver) -> None:
    before = driver.marker()
    path = bench.send(driver, QUICK)  # an upload is no print
    driver.delete_file(path)
    assert not driver.printed_between(before, driver.marker())
    assert driver.printed_between(None, driver.marker())


def test_pause_and_resume(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    driver.pause()
    paused = watch.until_status(PrinterStatus.PAUSED)
    assert paused.job is not None
    assert paused.job.file == path
    driver.pause()  # of what is paused: fine
    assert driver.read_state().status is PrinterStatus.PAUSED
    driver.resume()
    watch.until_status(PrinterStatus.PRINTING)
    driver.resume()
    assert driver.read_state().status is PrinterStatus.PRINTING


def test_a_cancelled_print_is_cancelled_not_failed(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    driver.cancel()
    watch.until(ended_as(path, Outcome.CANCELLED))
    idle = watch.until_status(PrinterStatus.IDLE)
    assert idle.job is None
    assert ended_as(path, Outcome.CANCELLED)(idle)
    driver.delete_file(path)


def test_a_paused_print_can_be_cancelled(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    driver.pause()
    watch.until_status(PrinterStatus.PAUSED)
    driver.cancel()
    watch.until(ended_as(path, Outcome.CANCELLED))
    watch.until_status(PrinterStatus.IDLE)


def test_a_print_that_fails_says_why(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    bench.make_the_print_fail(driver)
    ended = watch.until(ended_as(path, Outcome.FAILED)).ended
    assert ended is not None
    assert "heater" in ended.reason.lower()
    stopped = watch.until_status(PrinterStatus.ERROR)
    assert stopped.job is None
    assert "heater" in stopped.message.lower()
    driver.firmware_restart()
    watch.until_status(PrinterStatus.IDLE)


def test_there_is_nothing_to_command_on_an_idle_machine(driver: PrinterDriver) -> None:
    for command in (driver.pause, driver.resume, driver.cancel):
        with pytest.raises(Refused):
            command()


def test_it_refuses_a_second_start_while_printing_and_while_paused(
    bench: Bench, driver: PrinterDriver, watch: Watch
) -> None:
    first, second = bench.send(driver, LONG), bench.send(driver, QUICK)
    looked: list[str] = []
    driver.start(first, last_look=lambda: looked.append("first"))
    watch.until_status(PrinterStatus.PRINTING)
    with pytest.raises(Busy):
        driver.start(second, last_look=lambda: looked.append("second"))
    driver.pause()
    watch.until_status(PrinterStatus.PAUSED)
    with pytest.raises(Busy):
        driver.start(second, last_look=lambda: looked.append("second"))
    assert looked == ["first"], "something was about to be sent"
    job = driver.read_state().job
    assert job is not None
    assert job.file == first


def test_the_last_look_can_stop_a_start(bench: Bench, driver: PrinterDriver) -> None:
    class TooLate(Exception):
        pass

    def too_late() -> None:
        raise TooLate

    path, before = bench.send(driver, QUICK), driver.marker()
    with pytest.raises(TooLate):
        driver.start(path, last_look=too_late)
    assert not driver.printed_between(before, driver.marker())


def test_a_file_that_is_not_there_cannot_be_started(driver: PrinterDriver) -> None:
    for path in ("not-there.gcode", "no-folder/not-there.gcode", "../config/printer.cfg"):
        with pytest.raises(Missing):
            driver.start(path)
    assert driver.read_state().status is PrinterStatus.IDLE


def test_a_running_print_is_protected(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    for attempt in (
        lambda: driver.delete_file(path),
        lambda: driver.home(["x"]),
        lambda: driver.jog({"x": 1}, 20),
        driver.firmware_restart,
    ):
        with pytest.raises(Busy):
            attempt()
    assert driver.find_ended(path) is None
    assert driver.read_state().status is PrinterStatus.PRINTING


# -- the machine


def test_heaters_follow(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    driver.set_temperature("tool0", 60)
    driver.set_temperature("bed", 40)
    warm = watch.until(
        lambda state: {name: value.target for name, value in state.temperatures.items()} == {"tool0": 60, "bed": 40}
    )
    assert (warm.temperatures["tool0"].actual or 0) > 20
    assert driver.read_state().temperatures["tool0"].target == 60
    driver.set_temperature("tool0", 0)
    driver.set_temperature("bed", 0)
    watch.until(lambda state: all(value.target == 0 for value in state.temperatures.values()))


def test_a_heater_that_is_not_there_is_unsupported(driver: PrinterDriver) -> None:
    wait_for("temperatures", lambda: bool(driver.read_state().temperatures))
    for heater in ("tool1", "chamber"):
        with pytest.raises(Unsupported):
            driver.set_temperature(heater, 50)


def test_home_and_jog(driver: PrinterDriver) -> None:
    driver.home(["x", "Y", "z"])
    driver.jog({"x": 5, "y": 2.5}, 50)
    driver.jog({"X": -5}, 50)


def test_gcode_goes_through_line_by_line(driver: PrinterDriver, watch: Watch) -> None:
    driver.gcode(["M140 S35", "", "M104 S45"])
    watch.until(
        lambda state: {name: value.target for name, value in state.temperatures.items()} == {"tool0": 45, "bed": 35}
    )
    driver.gcode(["M140 S0", "M104 S0"])


def test_the_machine_answers_gcode(driver: PrinterDriver) -> None:
    said: list[str] = []
    driver.gcode(["M105", "M115 ; who are you"], said.append)
    heat = next(k for k, line in enumerate(said) if re.search(r"T0?:[0-9.]+ */ *[0-9.]+", line))
    name = next(k for k, line in enumerate(said) if "FIRMWARE_NAME:" in line)
    assert heat < name
    assert all(line.isprintable() for line in said)


def test_lines_that_say_nothing_have_an_end_too(driver: PrinterDriver) -> None:
    said: list[str] = []
    driver.gcode(["; only a remark", "G90"], said.append)
    assert [line for line in said if line != "ok"] == []


def test_an_emergency_stop_stops_and_a_restart_brings_it_back(
    bench: Bench, driver: PrinterDriver, watch: Watch
) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    driver.emergency_stop()
    stopped = watch.until_status(PrinterStatus.ERROR)
    assert stopped.message
    assert stopped.job is None
    watch.until(ended_as(path, Outcome.FAILED))
    with pytest.raises(Busy):
        driver.start(path)
    driver.firmware_restart()
    watch.until_status(PrinterStatus.IDLE)
    assert driver.read_state().status is PrinterStatus.IDLE


def test_an_emergency_stop_ends_a_paused_print_too(bench: Bench, driver: PrinterDriver, watch: Watch) -> None:
    path = bench.send(driver, LONG)
    driver.start(path)
    watch.until_status(PrinterStatus.PRINTING)
    driver.pause()
    watch.until_status(PrinterStatus.PAUSED)
    driver.emergency_stop()
    watch.until(ended_as(path, Outcome.FAILED))
    watch.until_status(PrinterStatus.ERROR)


def test_objects_are_there_if_the_machine_says_so(driver: PrinterDriver) -> None:
    if Capability.OBJECTS not in driver.capabilities:
        with pytest.raises(Unsupported):
            driver.objects()
        return
    assert {"toolhead", "extruder"} <= driver.objects().keys()
    assert driver.objects(["extruder"])["extruder"]["temperature"] > 0


def test_an_sdcard_is_there_if_the_machine_says_so(driver: PrinterDriver) -> None:
    if Capability.SDCARD in driver.identify().capabilities:
        assert all(file.location == "sdcard" for file in driver.list_files("sdcard"))
    else:
        with pytest.raises(Unsupported):
            driver.list_files("sdcard")


# -- when it is gone


def test_a_stream_ends_promptly_when_told_to(driver: PrinterDriver) -> None:
    stop = threading.Event()
    stream = driver.stream(stop)
    next(stream)
    stop.set()
    assert len(list(stream)) <= 1, "it went on listening"


def test_a_server_that_dies_in_a_print_is_noticed_and_found_again(bench: Bench, driver: PrinterDriver) -> None:
    path = bench.send(driver, LONG)
    with Watch(driver) as watch:
        driver.start(path)
        watch.until_status(PrinterStatus.PRINTING)
        bench.peer.kill()
        assert isinstance(watch.until_raised(), Unreachable)
    for attempt in (driver.identify, driver.read_state, driver.cancel, lambda: driver.start(path)):
        with pytest.raises(Unreachable):
            attempt()
    bench.peer.restart()
    wait_for("the machine", lambda: driver.read_state().status is PrinterStatus.IDLE, DEADLINE_S)
    with Watch(driver) as watch:
        back = watch.until_status(PrinterStatus.IDLE)
    assert not ended_as(path, Outcome.COMPLETED)(back)
    record = driver.find_ended(path)
    assert record is None or record.outcome is Outcome.FAILED
