import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embed.onnx_session import OnnxSession, SessionOptions
from models.errors import ModelRunError
from models.store import ModelFiles
from tests import standin_models


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return standin_models.attack(tmp_path)


def session(files: ModelFiles, width: int = 256) -> OnnxSession:
    return OnnxSession(files, inputs=("features",), output="embedding", width=width)


def test_a_graph_runs_and_gives_one_row_per_item(files: ModelFiles) -> None:
    found = session(files).run({"features": np.ones((3, 83), np.float32)})
    assert found.shape == (3, 256)
    assert found.dtype == np.float32


def test_a_file_that_is_no_graph_names_the_model(files: ModelFiles) -> None:
    files.graph.write_bytes(b"not a graph")
    with pytest.raises(ModelRunError, match=r"model attack: .* cannot be loaded"):
        session(files)


def test_a_graph_with_other_inputs_is_refused(files: ModelFiles) -> None:
    with pytest.raises(ModelRunError, match=r"takes \['features'\].*needed are \['series'\]"):
        OnnxSession(files, inputs=("series",), output="embedding", width=256)


def test_a_graph_of_another_width_than_the_manifest_is_refused(files: ModelFiles) -> None:
    with pytest.raises(ModelRunError, match="256 wide, the manifest says 128"):
        session(files, width=128)


def test_an_input_of_another_shape_is_refused_with_its_shape(files: ModelFiles) -> None:
    with pytest.raises(ModelRunError, match=r"refused inputs of shape .*\(3, 82\)"):
        session(files).run({"features": np.ones((3, 82), np.float32)})


def test_an_output_that_is_not_finite_is_refused(files: ModelFiles) -> None:
    with pytest.raises(ModelRunError, match="not finite"):
        session(files).run({"features": np.full((1, 83), np.inf, np.float32)})


def test_weights_that_are_not_there_are_named(files: ModelFiles, tmp_path: Path) -> None:
    graph = Path(standin_models.__file__).parents[1] / "models" / "artefacts" / "minilm.onnx"
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(graph.read_bytes())
    with pytest.raises(ModelRunError, match="cannot be loaded"):
        session(replace(files, graph=alone))


def test_an_encoder_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="at least 1 thread"):
        SessionOptions(threads=0)


def test_the_runtime_collects_nothing_for_its_makers(files: ModelFiles, tmp_path: Path) -> None:
    """Its collector keeps a device number and a queue in the home folder before it sends them."""
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys; from embed import onnx_session;"
        "onnx_session.onnxruntime.InferenceSession(sys.argv[1]);"
        "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(files.graph)],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
    assert [path for path in home.rglob("*") if path.is_file()] == []
