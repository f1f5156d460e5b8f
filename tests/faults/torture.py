"""Kills a service at random, hundreds of times, and says what was lost.

`python -m tests.faults.torture --restarts 200 --seed S` plays days on an attacked site until the
service has died so often: killed by the watcher at one of a few kinds of step of the service or of its
child that were drawn, each as likely as any other, or from outside at a random moment; every other
death at a step is a power cut. At the end every event and every chunk must be there. Prints one line of JSON with the seed, and exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.arming import write_models
from tests.faults.attacked_site import Round, Site, round_of
from tests.faults.campaign import check, finish, play
from tests.faults.nursery import Nursery
from tests.faults.steps import Mode

MODES: tuple[Mode, ...] = ("kill", "power", "torn")
#: Share of the starts whose end has nothing to do with a step.
OUTSIDE = 0.2
#: How many kinds of step may end a start. One alone may not come in that start; of many, the early
#: ones of a start come first.
KINDS = (1, 5, 20)
#: Starts of a day after which one kind is drawn at a time, so that the day ends.
MANY_STARTS = 30
#: Mean of the pause before a kill from outside, seconds; a few are much longer. So short that most
#: deaths come before the day is over: a day dies some twenty times.
PAUSE_S = 0.4
#: By how much it grows with each start of a day, so that a day ends on a slow machine, too.
PATIENCE = 1.1


class Chance:
    """Draws how each start ends; gives the two arguments of a `Site` that need it.

    Args:
        seed: of what is drawn.
        notes: the notes of the site, see `arming.armed`.
    """

    def __init__(self, seed: int, notes: Path) -> None:
        self.outside = 0
        self.modes: dict[str, Mode] = {}
        self._drawn = random.Random(seed)
        self._notes = notes
        self._starts = self._before_today = 0
        self._kill_at: float | None = None

    def plan(self) -> tuple[str, Mode]:
        """How the next process is to end."""
        self._starts += 1
        seen = sorted(set((self._notes / "seen").read_text().splitlines()))
        outside = not seen or self._drawn.random() < OUTSIDE
        mode = self._drawn.choices(MODES, (2, 1, 1))[0]
        # A plan may never come to its step, or take the child alone: then this ends the service.
        pause_s = PAUSE_S if outside else 4 * PAUSE_S
        starts = self._starts - self._before_today
        pause_s *= PATIENCE**starts
        self._kill_at = time.monotonic() + self._drawn.expovariate(1 / pause_s)
        if outside:
            return "none", "kill"
        kinds = self._drawn.choice(KINDS) if starts < MANY_STARTS else 1
        steps = "|".join(self._drawn.sample(seen, min(kinds, len(seen))))
        # The first time as often as all later ones.
        count = self._drawn.choices((1, 2, 3, 6), (4, 2, 1, 1))[0]
        self.modes[str(self._starts)] = mode
        return f"{self._starts}:{count}:{steps}", mode

    def begin_day(self) -> None:
        """Be as impatient as at first."""
        self._before_today = self._starts

    def impatience(self, site: Site) -> None:
        """Kill the service from outside when its time has come."""
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_at = None
            if site.service is not None:
                self.outside += 1
                site.service.send_signal(signal.SIGKILL)


def torture(folder: Path, restarts: int, seed: int) -> dict[str, object]:
    """Play until the service has died so often; give the account.

    Raises AssertionError if anything that was acknowledged is lost, twice there, or not whole.
    """
    began = time.monotonic()
    models, place = folder / "models", folder / "site"
    models.mkdir()
    place.mkdir()
    write_models(models)
    chance = Chance(seed, place / "notes")
    played: list[Round] = []
    with (
        Nursery(models) as nursery,
        Site(place, nursery, models, plan=chance.plan, impatience=chance.impatience) as site,
    ):
        while site.model.restarts < restarts or len(played) < 2:
            now = round_of(len(played))
            chance.begin_day()
            play(site, played, now)
            played.append(now)
            print(len(played), site.model.restarts, file=sys.stderr, flush=True)  # noqa: T201 - its answer
        site.calm()
        finish(site, played)
        check(site, played)
        tried = [t.split(":", 2) for t in (site.notes / "tried").read_text().splitlines()]
        steps = {(role, step) for _, role, step in tried}
        kills = Counter(f"{role}, {chance.modes[number]}" for number, role, _ in tried)
        return {
            "seed": seed,
            "restarts": site.model.restarts,
            "kills": {**kills, "outside": chance.outside},
            "kinds_of_steps": len(steps),
            "days": len(played),
            "events": sum(len(r.events | r.late | r.hidden) for r in played),
            "looks": site.model.looks,
            "lost": 0,
            "seconds": round(time.monotonic() - began),
        }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            account = torture(Path(folder), given.restarts, given.seed)
        except AssertionError as error:
            print(json.dumps({"seed": given.seed, "failed": str(error)}))  # noqa: T201 - its answer
            return 1
    print(json.dumps(account))  # noqa: T201 - its answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
