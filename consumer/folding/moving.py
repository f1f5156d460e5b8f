"""Bringing indices to the models that are installed, while what they hold is served.

The coordinator asks for it: `begin` when nothing else is to do, `settle` after each day that was
embedded anew. Where every step stands is in the catalogue, so a restart goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from consumer.clock import Clock
from consumer.folding.installed import Models
from index.catalogue import Catalogue
from index.chunks import INDEX_NAMES
from index.editions import adopt, held_model, progress, tidy

log = structlog.get_logger("moving")

LOOK_EVERY_S = 60.0


class Moving:
    """For the thread that closes days.

    Args:
        models: what is installed; None for an executor that is not the real one.
    """

    def __init__(
        self, catalogue: Catalogue, models: Models | None, clock: Clock, *, data_dir: Path
    ) -> None:
        self._catalogue = catalogue
        self._models = models
        self._clock = clock
        self._root = data_dir / "index"
        self._looked: float | None = None

    def begin(self, *, at_once: bool = False) -> None:
        """Begin the next edition of every index whose rows another model made; once a minute.

        An index whose new model is not on this machine keeps being served as it is.

        Raises:
            StoreError: the catalogue cannot be written, or the rest of an old edition not removed.
        """
        if self._models is None:
            return
        now = self._clock.monotonic()
        if not at_once and self._looked is not None and now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        for name in INDEX_NAMES:
            adopt(self._root, self._catalogue, name)
            self.settle(name)
            model = self._models.installed(name)[1]
            held = held_model(self._root, self._catalogue.serving(name))
            upcoming = self._catalogue.upcoming(name)
            if upcoming is not None and held is not None and held[1] == model:
                self._catalogue.give_up_edition(name)
                tidy(self._root, self._catalogue, name)
                continue
            if held is None or held[1] == model or (upcoming and upcoming.model == model):
                continue
            if not self._models.ready(name):
                log.warning("the new model is not on this machine", index=name, model=model.name)
                continue
            self._catalogue.begin_edition(name, model)
            log.info("index is being made anew", index=name, model=model.name)

    def settle(self, name: str) -> None:
        """Serve the next edition of an index if it is complete, and remove what is left of the old.

        Raises:
            StoreError: the catalogue cannot be written, or the rest not removed.
        """
        made = progress(self._catalogue, name)
        if self._catalogue.switch_edition(name):
            assert made is not None  # noqa: S101 - there was a next edition
            log.info(
                "index is made anew",
                index=name,
                model=made.model.name,
                days=made.days,
                kept=[str(day) for day in made.kept],
            )
        tidy(self._root, self._catalogue, name)
