"""Kills a service at random, hundreds of times, and says what was lost.

`python -m tests.faults.torture --restarts 200 --seed S` plays days on an attacked site until the
service has died so often: killed by the watcher at a random step of the service or of its child, or
from outside at a random moment; every other death at a step is a power cut. At the end every event
and every chunk must be there. Prints one line of JSON with the seed, and exits with 1 if not.
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
#: Steps of one process between its start and the end of a day, about.
STEPS = 80
#: Mean of the pause before a kill from outside, seconds; a few are much longer.
PAUSE_S = 4.0


class Chance:
    """Draws how each start ends; gives the two arguments of a `Site` that need it."""

    def __init__(self, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self._drawn = random.Random(seed)
        self._starts = 0
        self._kill_at: float | None = None

    def plan(self) -> tuple[str, Mode]:
        """How the next process is to end."""
        self._starts += 1
        how = self._drawn.choices(("service", "fold", "outside"), (5, 3, 2))[0]
        mode = self._drawn.choices(MODES, (2, 1, 1))[0]
        # Early steps as often as all later ones: most of what can go wrong is at a start.
        step = round(STEPS ** self._drawn.random())
        # A plan may never come to its step, or take the child alone: then this ends the service.
        pause_s = PAUSE_S if how == "outside" else 3 * PAUSE_S
        self._kill_at = time.monotonic() + self._drawn.expovariate(1 / pause_s)
        if how == "outside":
            return "none", "kill"
        return f"{how}:{step}:{self._starts}", mode

    def impatience(self, site: Site) -> None:
        """Kill the service from outside when its time has come."""
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_at = None
            if site.service is not None:
                self.kills["outside"] += 1
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
    chance = Chance(seed)
    played: list[Round] = []
    with (
        Nursery(models) as nursery,
        Site(place, nursery, models, plan=chance.plan, impatience=chance.impatience) as site,
    ):
        while site.model.restarts < restarts or len(played) < 2:
            now = round_of(len(played))
            play(site, played, now)
            played.append(now)
            print(len(played), site.model.restarts, file=sys.stderr, flush=True)  # noqa: T201
        site.calm()
        finish(site, played)
        check(site, played)
        for line in (site.notes / "tried").read_text().splitlines():
            chance.kills[line.split(":")[0]] += 1
        return {
            "seed": seed,
            "restarts": site.model.restarts,
            "kills": dict(chance.kills),
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
            print(json.dumps({"seed": given.seed, "failed": str(error)}))  # noqa: T201
            return 1
    print(json.dumps(account))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
