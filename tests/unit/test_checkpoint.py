"""An operator's own time-series encoder: manifest, wrapper and windows, without PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from consumer.commands.app import app
from consumer.folding.installed import installed
from embed.timeseries import TimeSeriesEmbedder
from models.checkpoint import Checkpoint, build_checkpoint, check_graph, use_shipped
from models.errors import ManifestError, ModelAlteredError, ModelBuildError
from models.manifest import find_entry
from models.store import installed_models, locate, operator_manifest, state
from tests import standin_models

CONTEXT = 512


def exported(source: str, target: Path) -> Checkpoint:
    """A small encoder of context 512 in the place of a real export."""
    made = standin_models.timeseries(target.parent, context=CONTEXT)
    made.graph.replace(target)
    return Checkpoint(CONTEXT, "mean of seen states", "0123456789abcdef")


def deaf(source: str, target: Path) -> Checkpoint:
    """A graph that reads the last 100 steps only: a silent cut."""
    ends = {"from": [-100], "to": [2**31], "axis": [1]}
    nodes = [
        helper.make_node("IsNaN", ["series"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "series"], ["filled"]),
        helper.make_node("Slice", ["filled", "from", "to", "axis"], ["tail"]),
        helper.make_node("ReduceMean", ["tail", "axis"], ["mean"], keepdims=1),
        helper.make_node("Expand", ["mean", "width"], ["embedding"]),
    ]
    values = [helper.make_tensor(k, TensorProto.INT64, [1], v) for k, v in ends.items()]
    values += [
        helper.make_tensor("width", TensorProto.INT64, [2], [1, 512]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    series = helper.make_tensor_value_info("series", TensorProto.FLOAT, ["n", "length"])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 512])
    graph = helper.make_graph(nodes, "deaf", [series], [output], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(target))
    return Checkpoint(CONTEXT, "mean", "")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with an encoder that was built from a checkpoint."""
    folder = tmp_path / "cache"
    build_checkpoint("someone/Chronos Tiny", cache_dir=folder, export=exported)
    return folder


def test_a_built_checkpoint_takes_the_place_of_the_shipped_encoder(cache: Path) -> None:
    entry = locate("timeseries", cache).entry
    assert (entry.name, entry.version, entry.context) == ("chronos-tiny", "0123456789ab", CONTEXT)
    assert (entry.source, entry.pooling) == ("someone/Chronos Tiny", "mean of seen states")
    assert [one.index for one in installed_models(cache)] == ["timeseries", "semantic", "attack"]
    assert state(entry, cache) == "ready"


def test_its_rows_are_known_to_be_of_another_model(cache: Path, tmp_path: Path) -> None:
    dimension, model = installed("timeseries", cache)
    shipped_dimension, shipped = installed("timeseries", tmp_path / "empty")
    assert dimension == shipped_dimension == 512
    assert model != shipped
    files = locate("timeseries", cache)
    assert model.sha256 == TimeSeriesEmbedder(files, threads=1).model.sha256


def test_the_other_indices_keep_their_encoders(cache: Path, tmp_path: Path) -> None:
    assert installed("attack", cache) == installed("attack", tmp_path / "empty")


def test_every_minute_of_a_day_longer_than_the_context_moves_its_vector(cache: Path) -> None:
    embedder = TimeSeriesEmbedder(locate("timeseries", cache), threads=1)
    day = np.random.default_rng(1).poisson(20.0, (1, 1500)).astype(np.float32)
    moved = np.repeat(day, 1500, axis=0)
    moved[np.arange(1500), np.arange(1500)] += 200
    change = np.abs(embedder.embed_series(moved) - embedder.embed_series(day)).max(1)
    assert (change > 0).all()


def test_going_back_to_the_shipped_encoder_leaves_nothing_behind(cache: Path) -> None:
    graph = locate("timeseries", cache).graph
    assert use_shipped(cache)
    assert not graph.exists()
    assert locate("timeseries", cache).entry == find_entry("timeseries")
    assert not use_shipped(cache)


def test_building_again_replaces_the_graph_of_before(cache: Path) -> None:
    def wider(source: str, target: Path) -> Checkpoint:
        standin_models.timeseries(target.parent, context=256).graph.replace(target)
        return Checkpoint(256, "mean", "")

    before = locate("timeseries", cache).graph
    after = build_checkpoint("other", cache_dir=cache, export=wider).graph
    assert after.exists()
    assert not before.exists()
    assert {path.name for path in cache.iterdir()} == {after.name, "manifest.toml"}


def test_a_graph_that_cuts_what_it_is_given_is_refused_and_nothing_changes(cache: Path) -> None:
    before = operator_manifest(cache).read_bytes()
    with pytest.raises(ModelBuildError, match="does not read all of the 512 steps"):
        build_checkpoint("cutting", cache_dir=cache, export=deaf)
    assert operator_manifest(cache).read_bytes() == before
    assert state(locate("timeseries", cache).entry, cache) == "ready"


def test_a_graph_of_another_width_is_refused(tmp_path: Path) -> None:
    made = standin_models.timeseries(tmp_path, context=64)
    with pytest.raises(ModelBuildError, match="needed are finite numbers of"):
        check_graph(made.graph, context=64, width=256)


def test_a_checkpoint_that_cannot_be_had_is_named_with_the_remedy(tmp_path: Path) -> None:
    def unreachable(source: str, target: Path) -> Checkpoint:
        raise ModelBuildError("no such name, and no network")

    with pytest.raises(ModelBuildError, match=r"a/b cannot be used: no such name.*give a folder"):
        build_checkpoint("a/b", cache_dir=tmp_path, export=unreachable)
    assert list(tmp_path.iterdir()) == []


def test_without_the_training_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "models.training.chronos_export", raising=False)
    with pytest.raises(ModelBuildError, match="extra `train`"):
        build_checkpoint("amazon/chronos-t5-tiny", cache_dir=tmp_path)


def test_the_licence_is_that_of_the_checkpoints_own_card(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine"
    checkpoint.mkdir()
    (checkpoint / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Mine\n")
    entry = build_checkpoint(str(checkpoint), cache_dir=tmp_path / "c", export=exported).entry
    assert entry.licence == "cc-by-4.0"
    named = build_checkpoint("amazon/chronos-t5-tiny", cache_dir=tmp_path / "c", export=exported)
    assert named.entry.licence == "Apache-2.0"


def test_a_built_graph_that_was_altered_is_refused_with_the_way_back(cache: Path) -> None:
    graph = locate("timeseries", cache).graph
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ModelAlteredError, match="models build timeseries --shipped"):
        locate("timeseries", cache)


def test_a_manifest_of_the_operator_that_cannot_be_read_is_named(cache: Path) -> None:
    operator_manifest(cache).write_text("not toml")
    with pytest.raises(ManifestError, match=str(operator_manifest(cache))):
        locate("timeseries", cache)


@pytest.mark.parametrize("arguments", [["semantic", "--checkpoint", "x"], ["--shipped"]])
def test_the_command_takes_a_checkpoint_for_the_time_series_alone(
    arguments: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "dayfold.toml"
    config.write_text(f'[models]\ncache_dir = "{tmp_path}"\n')
    result = CliRunner().invoke(app, ["models", "build", *arguments, "--config", str(config)])
    assert result.exit_code != 0
    assert "timeseries" in result.output + str(result.exception)
