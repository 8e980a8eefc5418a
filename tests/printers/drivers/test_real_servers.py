"""What only one of the real servers does, and no simulator needs to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from printers.drivers import driver_for, moonraker, octoprint, sockets
from printers.drivers.base import Outcome, PrinterStatus, Refused, Unauthorised, Unclear
from printers.drivers.moonraker_words import NO_KLIPPER
from tests.peers import MoonrakerPeer, OctoPrintPeer, wait_for
from tests.printers.drivers.conftest import DEADLINE_S, Bench, Watch, ended_as, idle_after

LONG = 6000


@pytest.fixture
def klipper(moonraker: MoonrakerPeer, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench("moonraker", moonraker, tmp_path)
    bench.settle()
    yield bench
    moonraker.set_speed(moonraker.speed)
    bench.settle()


@pytest.fixture
def pi(octoprint: OctoPrintPeer, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench("octoprint", octoprint, tmp_path)
    bench.settle()
    yield bench
    bench.settle()


def printing(bench: Bench, watch: Watch, end: str = "") -> str:
    driver = bench.driver()
    path = bench.send(driver, LONG, end)
    driver.start(path)
    watch.until(lambda state: state.job is not None and state.job.file == path)
    return path


@pytest.mark.moonraker
class TestMoonraker:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
    def test_a_print_goes_on_while_moonraker_restarts(self, klipper: Bench, how: signal.Signals) -> None:
        """Its history says server_exit or interrupted for ever; the print ends well all the same."""
        driver = klipper.driver()
        path = klipper.send(driver, LONG)
        with Watch(driver) as watch:
            driver.start(path)
            watch.until_status(PrinterStatus.PRINTING)
            assert isinstance(klipper.peer, MoonrakerPeer)
            klipper.peer.restart_moonraker(how)
            watch.until_raised()
        assert driver.find_ended(path) is None
        with Watch(driver) as watch:
            back = watch.until_status(PrinterStatus.PRINTING)
            assert not ended_as(path, Outcome.FAILED)(back)
            klipper.peer.set_speed(10_000)
            watch.until(idle_after(path, Outcome.COMPLETED))
        record = driver.find_ended(path)
        assert record is not None
        assert record.outcome is Outcome.COMPLETED

    def test_a_crash_of_klipper_fails_the_print_and_its_return_is_noticed(self, klipper: Bench) -> None:
        driver = klipper.driver()
        with Watch(driver) as watch:
            path = printing(klipper, watch)
            assert isinstance(klipper.peer, MoonrakerPeer)
            klipper.peer.kill_klippy()
            gone = watch.until(ended_as(path, Outcome.FAILED))
            assert (gone.status, gone.message) == (PrinterStatus.CONNECTING, NO_KLIPPER)
            assert driver.read_state().message == NO_KLIPPER
            klipper.peer.start_klippy()
            back = watch.until_status(PrinterStatus.IDLE)
            assert back.temperatures["tool0"].actual is not None

    def test_an_error_that_nothing_announces_is_found(self, klipper: Bench) -> None:
        """RESTART after a shutdown: Klipper comes back in an error, and Moonraker sends no notification."""
        driver = klipper.driver()
        with Watch(driver) as watch:
            driver.emergency_stop()
            watch.until_status(PrinterStatus.ERROR)
            driver.gcode(["RESTART"])
            watch.until_status(PrinterStatus.CONNECTING)
            stuck = watch.until_status(PrinterStatus.ERROR)
            assert stuck.message == "Can not update MCU 'mcu' config as it is shutdown"
            driver.firmware_restart()
            watch.until_status(PrinterStatus.IDLE)

    def test_a_print_begun_right_after_a_restart_is_followed_to_its_end(self, klipper: Bench) -> None:
        """Klipper is ready a moment before Moonraker says so: that ends no print. (Whether Moonraker is in time to
        write it into its history is its own affair.)"""
        driver = klipper.driver()
        path = klipper.send(driver, 100)
        with Watch(driver) as watch:
            driver.emergency_stop()
            watch.until_status(PrinterStatus.ERROR)
            driver.firmware_restart()
            watch.until_status(PrinterStatus.IDLE)
            driver.start(path)
            done = watch.until(lambda state: state.ended is not None and state.ended.file == path)
        assert ended_as(path, Outcome.COMPLETED)(done)
        record = driver.find_ended(path)
        assert record is not None
        assert record.outcome is Outcome.COMPLETED

    def test_a_pause_left_behind_by_somebody_else_is_cleared(self, klipper: Bench) -> None:
        """Somebody starts a print on the paused machine: Moonraker says "ok", and from then on no pause works."""
        driver = klipper.driver()
        with Watch(driver) as watch:
            printing(klipper, watch)
            driver.pause()
            watch.until_status(PrinterStatus.PAUSED)
            other = klipper.send(driver, LONG)
            driver.gcode([f'SDCARD_PRINT_FILE FILENAME="{other}"'])
            watch.until(lambda state: state.status is PrinterStatus.PRINTING and state.job.file == other)  # type: ignore[union-attr]
            assert driver.objects(["pause_resume"])["pause_resume"]["is_paused"] is True
            driver.pause()
            watch.until_status(PrinterStatus.PAUSED)

    def test_a_cancel_that_klipper_is_too_busy_for_is_unclear_and_comes_true_later(
        self, klipper: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(moonraker, "BLOCKING_TIMEOUT", (4.0, 0.5))
        driver = klipper.driver()
        path = driver.upload(klipper.gcode(1, "G4 P40000000\n" * 2), "dwell.gcode").path  # half an hour each
        with Watch(driver) as watch:
            driver.start(path)
            watch.until_status(PrinterStatus.PRINTING)
            with pytest.raises(Unclear):
                driver.cancel()
            assert isinstance(klipper.peer, MoonrakerPeer)
            klipper.peer.set_speed(100_000)
            watch.until(idle_after(path, Outcome.CANCELLED))

    def test_what_klipper_refuses_at_the_console_is_heard_and_raised(self, klipper: Bench) -> None:
        said: list[str] = []
        with pytest.raises(Refused, match="range"):
            klipper.driver().gcode(["G28", "G1 X9000"], said.append)
        assert any(line.startswith("!! ") for line in said)

    def test_an_unknown_word_at_the_console_is_answered(self, klipper: Bench) -> None:
        said: list[str] = []
        klipper.driver().gcode(["FLY_HOME"], said.append)
        assert said == ['// Unknown command:"FLY_HOME"']

    def test_a_console_that_klipper_is_too_busy_for_is_unclear(
        self, klipper: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(moonraker, "BLOCKING_TIMEOUT", (4.0, 0.5))
        with pytest.raises(Unclear):
            klipper.driver().gcode(["G4 P40000000"], lambda line: None)
        assert isinstance(klipper.peer, MoonrakerPeer)
        klipper.peer.set_speed(1_000_000)
        klipper.driver().gcode(["M400"])  # behind it

    def test_a_console_without_klipper_says_so(self, klipper: Bench) -> None:
        assert isinstance(klipper.peer, MoonrakerPeer)
        klipper.peer.kill_klippy()
        with pytest.raises(Refused, match=NO_KLIPPER):
            klipper.driver().gcode(["M115"], lambda line: None)
        klipper.peer.start_klippy()
        back = klipper.driver()
        wait_for("Klipper is back", lambda: back.read_state().status is PrinterStatus.IDLE, DEADLINE_S)

    def test_a_trusted_client_needs_no_key(self, klipper: Bench) -> None:
        """As on most hobby printers, where the whole network is trusted."""
        with MoonrakerPeer(trusting=True) as trusting:
            driver = driver_for("moonraker", trusting.url, "")
            assert driver.identify().status is PrinterStatus.IDLE
            with Watch(driver) as watch:
                driver.set_temperature("bed", 40)
                watch.until(lambda state: state.temperatures["bed"].target == 40)


@pytest.mark.octoprint
class TestOctoPrint:
    def test_the_console_lets_go_of_a_machine_that_is_long_at_work(
        self, pi: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(octoprint, "LISTEN_S", 0.0)
        said: list[str] = []
        pi.driver().gcode(["M115"], said.append)
        assert said == [octoprint.AT_WORK]

    def test_the_console_tells_long_answers_whole(self, pi: Bench) -> None:
        said: list[str] = []
        pi.driver().gcode(["M503"], said.append)
        assert len(said) > 20
        assert said[-1] == "ok"

    def test_a_stopped_machine_still_gives_signs_of_life(self, pi: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """OctoPrint has nothing to say while its printer is not connected, and then it answers pings."""
        monkeypatch.setattr(sockets, "PING_S", 0.2)
        driver = pi.driver()
        with Watch(driver) as watch:
            driver.emergency_stop()
            watch.until_status(PrinterStatus.ERROR)
            wait_for("three more signs", lambda: len(watch.states) > 3, DEADLINE_S)
            assert {state.status for state in watch.states} == {PrinterStatus.ERROR}

    def test_a_key_that_may_only_look_is_too_weak(self, pi: Bench) -> None:
        as_admin = {"X-Api-Key": pi.peer.api_key}
        users = f"{pi.peer.url}/api/access/users"
        viewer = {"name": "viewer", "password": "farm", "active": True, "groups": ["readonly"]}
        requests.post(users, json=viewer, headers=as_admin, timeout=DEADLINE_S).raise_for_status()
        key = requests.post(f"{users}/viewer/apikey", headers=as_admin, timeout=DEADLINE_S).json()["apikey"]
        weak = pi.driver(api_key=key)
        with pytest.raises(Unauthorised, match="CONTROL"):
            weak.identify()
        assert weak.read_state().status is PrinterStatus.IDLE
        for attempt in (lambda: weak.gcode(["M105"]), lambda: weak.upload(pi.gcode(1), "weak.gcode")):
            with pytest.raises(Unauthorised):
                attempt()

    def test_a_login_that_is_taken_back_is_made_anew(self, pi: Bench) -> None:
        """A change of the user's rights makes OctoPrint ask for a new login on the open socket."""
        as_admin = {"X-Api-Key": pi.peer.api_key}
        users = f"{pi.peer.url}/api/access/users"
        rights = {"active": True, "admin": False, "permissions": [], "groups": ["users"]}
        requests.post(users, json={**rights, "name": "op", "password": "farm"}, headers=as_admin, timeout=DEADLINE_S)
        key = requests.post(f"{users}/op/apikey", headers=as_admin, timeout=DEADLINE_S).json()["apikey"]
        driver = pi.driver(api_key=key)
        with Watch(driver) as watch:
            changed = requests.put(
                f"{users}/op", json={**rights, "groups": ["admins"]}, headers=as_admin, timeout=DEADLINE_S
            )
            changed.raise_for_status()
            path = printing(pi, watch)
            driver.cancel()
            watch.until(idle_after(path, Outcome.CANCELLED))

    def test_a_print_begun_at_the_machine_is_seen(self, pi: Bench) -> None:
        driver = pi.driver()
        with Watch(driver) as watch:
            with pi.gcode(LONG).open("rb") as source:
                answer = requests.post(
                    f"{pi.peer.url}/api/files/local",
                    files={"file": ("somebody else's.gcode", source)},
                    data={"print": "true"},
                    headers={"X-Api-Key": pi.peer.api_key},
                    timeout=DEADLINE_S,
                )
            assert answer.json()["effectivePrint"] is True
            seen = watch.until_status(PrinterStatus.PRINTING)
            assert seen.job is not None
            assert seen.job.file == "somebody else's.gcode"
