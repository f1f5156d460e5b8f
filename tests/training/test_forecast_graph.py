"""The graph of the forecasting head against PyTorch."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models.training.export import write
from models.training.forecast_graph import AHEAD, Forecaster, graph_of
from models.training.timeseries_net import SeriesEncoder


@pytest.fixture(scope="module")
def net() -> SeriesEncoder:
    torch.manual_seed(3)
    return SeriesEncoder().eval()


@pytest.fixture(scope="module")
def session(
    net: SeriesEncoder, tmp_path_factory: pytest.TempPathFactory
) -> onnxruntime.InferenceSession:
    path: Path = tmp_path_factory.mktemp("head") / "forecast.onnx"
    write(graph_of(net), path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("rows", "length"), [(1, 64), (3, 72), (2, 97), (4, 512), (2, 1984)])
def test_the_graph_gives_what_pytorch_gives_at_every_length(
    net: SeriesEncoder, session: onnxruntime.InferenceSession, rows: int, length: int
) -> None:
    generator = torch.Generator().manual_seed(length)
    series = 50 + 10 * torch.randn(rows, length, generator=generator)
    series[:, 5] = torch.nan
    states = torch.randn(rows, AHEAD, net.width, generator=generator)
    with torch.no_grad():
        ours = Forecaster(net)(series, states).numpy()
    (theirs,) = session.run(None, {"series": series.numpy(), "states": states.numpy()})
    assert ours.shape == (rows, 64, 9)
    size = 10 + np.abs(ours)  # a forecast far outside the series is off by as many digits
    assert (np.abs(ours - theirs) / size).max() < 1e-4


def test_a_forecast_is_that_of_the_head_on_the_states_of_the_absent_patches(
    net: SeriesEncoder,
) -> None:
    series = 50 + 10 * torch.randn(2, 130, generator=torch.Generator().manual_seed(1))
    unknown = torch.full((2, 64), torch.nan)
    with torch.no_grad():
        found = net.states(*net.patched(torch.cat((series, unknown), 1)))
        ours = Forecaster(net)(series, found.last[:, -AHEAD:])
        assert torch.allclose(ours, net.forecast(series, AHEAD), atol=1e-3)
