"""A death at every step that service and folding child take on the disk, each in turn.

A campaign for each way to die: SIGKILL, a power cut, a power cut in which a rename overtakes others.
The service and its child die at the first step whose name nobody has died at yet, the service is
started again, and so on, until a whole day passes without a new name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.arming import write_models
from tests.faults.attacked_site import Round, Site, round_of
from tests.faults.campaign import check, finish, play
from tests.faults.nursery import Nursery
from tests.faults.steps import Mode, kind_of

pytestmark = pytest.mark.slow

#: More days than any campaign needs.
MOST = 20
#: Without these the campaign would not be what it says. There are more; a new one joins by itself.
SOME = {
    "service: create journal/DAY/",
    "service: create journal/DAY/N.seg",
    "service: begin journal/DAY/N.seg",
    "service: write journal/DAY/N.seg",
    "service: sync journal/DAY/N.seg",
    "service: sync journal/DAY",
    "service: sync journal",
    "service: rename journal/DAY/counts.json",
    "service: rename journal/DAY/N.ids",
    "service: begin journal/DAY/seal-N.json.tmp",
    "service: sync journal/DAY/seal-N.json.tmp",
    "service: rename journal/DAY/seal-N.json",
    "service: begin quarantine/schema/N.messages",
    "service: write quarantine/schema/N.messages",
    "service: sync quarantine/schema/N.messages",
    "service: begin quarantine/unknown_key/N.messages",
    "service: remove quarantine/unknown_key/N.messages",
    "service: catalogue PRAGMA USER_VERSION",
    "service: catalogue INSERT CHUNKS",
    "service: catalogue INSERT CHUNK_INDICES",
    "service: catalogue COMMIT",
    "fold: begin index/NAME/shards/DAY-rN.faiss.tmp",
    "fold: write index/NAME/shards/DAY-rN.faiss.tmp",
    "fold: sync index/NAME/shards/DAY-rN.faiss.tmp",
    "fold: rename index/NAME/shards/DAY-rN.faiss",
    "fold: sync index/NAME/shards",
    "fold: begin index/NAME/manifest-N.json.tmp",
    "fold: rename index/NAME/manifest-N.json",
    "fold: rename index/NAME/CURRENT",
    "fold: sync index/NAME",
    "fold: remove index/NAME/shards/DAY-rN.faiss",
    "fold: catalogue INSERT ROW_FACTS",
    "fold: catalogue INSERT CHUNK_INDICES",
    "fold: catalogue COMMIT",
}
#: Of a torn tail. In these campaigns a power cut takes the young segment as a whole.
AFTER_A_KILL = {"service: create journal/DAY/N.torn", "service: cut journal/DAY/N.seg"}
#: SQLite makes the first two, and the test asks for days to be closed with the third.
BY_OTHERS = {"catalogue.sqlite-wal", "catalogue.sqlite-shm", "run/requests/close-DAY"}


@dataclass(frozen=True)
class Campaign:
    """A site after its campaign, the service stopped."""

    mode: Mode
    site: Site
    played: list[Round]
    tried: list[str]


@pytest.fixture(scope="module", params=["kill", "power", "torn"])
def campaign(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaign]:
    mode: Mode = request.param
    folder = tmp_path_factory.mktemp("campaign")
    models, place = folder / "models", folder / "site"
    models.mkdir()
    place.mkdir()
    write_models(models)
    played: list[Round] = []
    with (
        Nursery(models) as nursery,
        Site(place, nursery, models, plan=lambda: ("each", mode)) as site,
    ):
        while True:
            assert len(played) < MOST, "a new step every day: names must not depend on the day"
            before = site.deaths()
            now = round_of(len(played))
            play(site, played, now)
            played.append(now)
            if site.deaths() == before:
                break
        finish(site, played)
        yield Campaign(mode, site, played, (site.notes / "tried").read_text().splitlines())


def test_every_acknowledged_event_is_in_its_day_once_and_every_chunk_whole(
    campaign: Campaign,
) -> None:
    assert campaign.site.model.looks > campaign.site.model.restarts > len(SOME) // 2
    check(campaign.site, campaign.played)


def test_both_processes_died_at_every_step_they_took(campaign: Campaign) -> None:
    assert max(Counter(campaign.tried).values()) == 1
    assert set((campaign.site.notes / "seen").read_text().splitlines()) == set(campaign.tried)
    assert set(campaign.tried) >= SOME | (AFTER_A_KILL if campaign.mode == "kill" else set())


def test_no_file_of_the_data_folder_was_made_behind_the_back_of_the_watcher(
    campaign: Campaign,
) -> None:
    """A write that goes another way than the ones that are watched would be attacked by nobody."""
    made = {
        name.split(" ", 2)[2]
        for name in campaign.tried
        if name.split(" ")[1] in {"create", "rename", "link"}
    }
    data = campaign.site.data
    there = {
        kind_of(str(path.relative_to(data)))
        for path in data.rglob("*")
        if path.is_file() and not path.is_relative_to(data / "scratch")
    }
    assert there - BY_OTHERS <= made
