"""Which labelled flows an attack encoder is measured on."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from consumer.demo.deployment import SAMPLE
from models.evaluate_attack import BLOCK_US, read_flows


def test_a_part_of_the_flows_keeps_the_splits_of_the_whole(tmp_path: Path) -> None:
    whole = read_flows(SAMPLE)
    part = tmp_path / "part.parquet"
    pq.write_table(pq.read_table(SAMPLE).slice(2000, 3000), part)
    flows = read_flows(part)
    assert (flows.held_by_time == whole.held_by_time[2000:5000]).all()
    assert (flows.held_at_random == whole.held_at_random[2000:5000]).all()


def test_blocks_of_two_minutes_are_held_out_whole() -> None:
    flows = read_flows(SAMPLE, draw=3)
    blocks = flows.times_us // BLOCK_US
    held = set(blocks[flows.held_by_time].tolist())
    assert held
    assert held.isdisjoint(blocks[~flows.held_by_time].tolist())


def test_another_draw_holds_out_other_flows_about_as_many() -> None:
    first, second = (read_flows(SAMPLE, draw=draw) for draw in (0, 1))
    for ours, theirs in (
        (first.held_at_random, second.held_at_random),
        (first.held_by_time, second.held_by_time),
    ):
        both = np.mean(ours & theirs)
        assert both < 0.75 * min(ours.mean(), theirs.mean())
        assert abs(ours.mean() - theirs.mean()) < 0.15
