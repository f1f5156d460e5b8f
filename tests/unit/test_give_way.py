"""A folding child that is stopped while events pile up."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.folding.give_way import GiveWay

ENDLESS = "while True: pass"


class Load:
    """What reception and the clock say, for the test to set."""

    def __init__(self) -> None:
        self.pressed = False
        self.now = 100.0

    def is_pressed(self) -> bool:
        return self.pressed

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", ENDLESS]) as process:
        yield process
        process.kill()


def state(child: subprocess.Popen[bytes], wanted: str) -> str:
    """The kernel's letter for the process, R or S or T; waits for the one that is wanted."""
    for _ in range(500):
        letter = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if letter in wanted:
            break
        time.sleep(0.01)
    return letter


def watched(child: subprocess.Popen[bytes], load: Load) -> GiveWay:
    return GiveWay(child, load.is_pressed, longest_s=10, monotonic=load.monotonic)


def test_a_child_stands_still_while_reception_is_pressed(child: subprocess.Popen[bytes]) -> None:
    load = Load()
    way = watched(child, load)
    way.look()
    assert state(child, "RS") in "RS"
    load.pressed = True
    way.look()
    assert state(child, "T") == "T"
    load.now += 2.5
    assert way.seconds == 2.5
    load.pressed = False
    way.look()
    assert state(child, "RS") in "RS"
    load.now += 60
    assert way.seconds == 2.5


def test_a_flood_without_end_leaves_the_child_half_of_the_time(
    child: subprocess.Popen[bytes],
) -> None:
    load = Load()
    load.pressed = True
    way = watched(child, load)
    seen = []
    for _ in range(30):
        way.look()
        seen.append(way.seconds)
        load.now += 2
    assert seen[-1] == pytest.approx(30, abs=2)


def test_a_child_that_stands_still_can_be_killed(child: subprocess.Popen[bytes]) -> None:
    load = Load()
    load.pressed = True
    watched(child, load).look()
    assert state(child, "T") == "T"
    child.kill()
    assert child.wait(10) == -signal.SIGKILL


def test_a_child_that_has_ended_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    load = Load()
    child.kill()
    child.wait(10)
    load.pressed = True
    watched(child, load).look()
    load.pressed = False
    watched(child, load).look()
