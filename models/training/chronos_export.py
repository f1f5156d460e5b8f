"""Turns a real Chronos checkpoint, T5 or Bolt, into a graph with the contract of the time-series index.

The checkpoint is loaded by the library `chronos-forecasting` itself. The graph holds everything between
raw values and the vector: scaling and binning (T5) or instance normalisation and patches (Bolt), the encoder,
the mean over what was seen, and the way to 512 numbers. Inference needs ONNX Runtime alone.

A checkpoint of another width keeps its distances as far as that can be: narrower states are filled
up with zeros (exactly), wider ones go through a fixed orthonormal projection drawn from seed 512 (distances keep to
a few per cent, and the scale that they lose is the same for all).
"""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from chronos import BaseChronosPipeline, ChronosBoltPipeline, ChronosPipeline
from chronos.chronos import MeanScaleUniformBins
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig

from models.checkpoint import Checkpoint
from models.errors import ModelBuildError
from models.training.export import tidy

OPSET = 18
WIDTH = 512
PROJECTION_SEED = 512
PARITY = 1e-5  # of unit vectors, between PyTorch and the graph


def projection(width: int) -> Tensor:
    """Rows (width, 512) that bring states to 512 numbers."""
    if width <= WIDTH:
        return torch.eye(width, WIDTH)
    drawn = np.random.default_rng(PROJECTION_SEED).standard_normal((width, WIDTH))
    return torch.from_numpy(np.linalg.qr(drawn)[0].astype(np.float32))


class Pooled(nn.Module):
    """Mean of the seen states at 512 numbers, of unit length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", projection(width))

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        """Vectors (n, 512) from states (n, t, width) and which of them stand for a value (n, t)."""
        weight = seen.to(states.dtype)[..., None]
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return functional.normalize(mean @ self.rows, dim=-1)


def filled_up(series: Tensor, context: int) -> Tensor:
    """Series (n, L) with absent steps before them, (n, context).

    Both encoders mask what is absent and know only relative places, so this changes nothing but lets
    the exporter trace one length.
    """
    absent = torch.full_like(series[:, :1], math.nan).expand(series.shape[0], context)
    whole = torch.cat((absent, series), 1)[:, series.shape[1] :]
    return whole.reshape(series.shape[0], context)


class T5Series(nn.Module):
    """A Chronos-T5 encoder from raw values; the binning is that of its own tokenizer, bin by bin."""

    def __init__(self, pipeline: ChronosPipeline) -> None:
        super().__init__()
        tokenizer, config = pipeline.tokenizer, pipeline.model.config
        if not isinstance(tokenizer, MeanScaleUniformBins):
            raise ModelBuildError(f"its tokenizer {type(tokenizer).__name__} is not known here")
        if config.model_type != "seq2seq":
            raise ModelBuildError("it has no encoder of its own (not an encoder-decoder model)")
        self.encoder = pipeline.model.model.encoder
        self.config = config
        self.register_buffer("boundaries", tokenizer.boundaries)
        self.register_buffer("low", tokenizer.boundaries[1].clone())
        last = len(tokenizer.boundaries) - 2
        self.register_buffer("step", (tokenizer.boundaries[last] - self.low) / (last - 1))
        self.pool = Pooled(pipeline.model.model.config.d_model)

    def bins(self, scaled: Tensor) -> Tensor:
        """`torch.bucketize(scaled, boundaries, right=True)` without a search over all boundaries.

        The boundaries are even: one division finds the bin or its neighbour, two comparisons the bin.
        """
        most = len(self.boundaries)
        near = torch.floor((scaled - self.low) / self.step).clamp(-1, most - 3).long() + 2
        below = scaled < self.boundaries[near - 1]
        above = scaled >= self.boundaries[near.clamp(max=most - 1)]
        return near - below.long() + above.long()

    def forward(self, series: Tensor) -> Tensor:
        """Vectors (n, 512) of raw series (n, L), NaN = absent."""
        config = self.config
        series = filled_up(series, config.context_length)
        seen = torch.isfinite(series)
        values = torch.where(seen, series, torch.zeros_like(series))
        scale = values.abs().sum(1) / seen.sum(1).clamp(min=1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        tokens = self.bins(values / scale[:, None]) + config.n_special_tokens
        tokens = tokens.clamp(0, config.n_tokens - 1)
        tokens = torch.where(seen, tokens, torch.full_like(tokens, config.pad_token_id))
        attended = seen
        if config.use_eos_token:
            end = torch.full_like(tokens[:, :1], config.eos_token_id)
            tokens = torch.cat((tokens, end), 1)
            attended = torch.cat((seen, torch.ones_like(seen[:, :1])), 1)
        states = self.encoder(input_ids=tokens, attention_mask=attended.long()).last_hidden_state
        return self.pool(states[:, : config.context_length], seen)


class BoltSeries(nn.Module):
    """A Chronos-Bolt encoder from raw values; patches and mask as it makes them itself."""

    def __init__(self, pipeline: ChronosBoltPipeline) -> None:
        super().__init__()
        self.model = pipeline.model
        config = self.model.chronos_config
        if config.input_patch_size != config.input_patch_stride:
            raise ModelBuildError("its patches overlap; only patches side by side are known here")
        self.patch = int(config.input_patch_size)
        self.context = int(config.context_length)
        if self.context % self.patch:
            raise ModelBuildError("its context is no whole number of patches")
        self.registered = bool(config.use_reg_token)
        self.pool = Pooled(self.model.config.d_model)

    def forward(self, series: Tensor) -> Tensor:
        """Vectors (n, 512) of raw series (n, L), NaN = absent."""
        model, count = self.model, self.context // self.patch
        series = filled_up(series, self.context)
        values = torch.where(torch.isfinite(series), series, torch.full_like(series, math.nan))
        scaled, _ = model.instance_norm(values)
        patches = scaled.reshape(series.shape[0], count, self.patch)
        mask = torch.isfinite(patches)
        patches = torch.where(mask, patches, torch.zeros_like(patches))
        observed = mask.any(-1)
        inputs = model.input_patch_embedding(torch.cat((patches, mask.to(patches.dtype)), -1))
        attended = observed
        if self.registered:
            marker = torch.full_like(observed[:, :1], model.config.reg_token_id, dtype=torch.long)
            inputs = torch.cat((inputs, model.shared(marker)), 1)
            attended = torch.cat((observed, torch.ones_like(observed[:, :1])), 1)
        found = model.encoder(attention_mask=attended.to(inputs.dtype), inputs_embeds=inputs)
        return self.pool(found[0][:, :count], observed)


def load(source: str) -> tuple[nn.Module, int, int, str]:
    """The network of a checkpoint, its context, width and revision.

    Raises:
        ModelBuildError: it cannot be had, or is no Chronos-T5 or Chronos-Bolt.
    """
    try:
        pipeline = BaseChronosPipeline.from_pretrained(
            source, device_map="cpu", dtype=torch.float32
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelBuildError(first_line(error)) from error
    if isinstance(pipeline, ChronosBoltPipeline):
        net: nn.Module = BoltSeries(pipeline)
        config = pipeline.model.config
        context = int(pipeline.model.chronos_config.context_length)
    elif isinstance(pipeline, ChronosPipeline):
        net = T5Series(pipeline)
        config = pipeline.model.model.config
        context = int(pipeline.model.config.context_length)
    else:
        raise ModelBuildError(f"a {type(pipeline).__name__} is neither Chronos-T5 nor Chronos-Bolt")
    # Fused attention cannot be decomposed by the exporter; the plain form computes the same.
    for part in net.modules():
        if isinstance(getattr(part, "config", None), PreTrainedConfig):
            part.config._attn_implementation = "eager"  # noqa: SLF001, no public name
    revision = str(getattr(config, "_commit_hash", None) or "")
    return net.eval(), context, int(config.d_model), revision


def export_checkpoint(source: str, target: Path) -> Checkpoint:
    """Write the graph of a checkpoint and hold it against PyTorch.

    Args:
        source: a folder, or a name that the library can fetch or has in its cache.
        target: the ONNX file to write.

    Raises:
        ModelBuildError: it cannot be had, is of another kind, or the graph differs from it.
    """
    net, context, width, revision = load(source)
    length = torch.export.Dim("length", min=2, max=context)
    program = torch.onnx.export(
        net,
        (samples(context)[0],),
        input_names=["series"],
        output_names=["pooled"],
        dynamic_shapes=({0: torch.export.Dim("n"), 1: length},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = tidy(program.model_proto)
    renamed(model, {"embedding": "looked_up", "pooled": "embedding"})
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
    parity = difference(net, target, context)
    if not parity <= PARITY:
        raise ModelBuildError(f"its graph differs from PyTorch by {parity:.1e}")
    way = "zeros to 512" if width < WIDTH else "orthonormal projection to 512 (seed 512)"
    pooling = "mean of seen states" + ("" if width == WIDTH else f" ({width} wide); {way}")
    return Checkpoint(context, pooling, revision)


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Gives values other names; the exporter calls a look-up as the contract calls the output."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in model.graph.output:
        value.name = names.get(value.name, value.name)


def samples(context: int) -> list[Tensor]:
    """Series of several lengths to the full context: walks with holes, counts, constants, nothing."""
    generator = torch.Generator().manual_seed(3)
    batches = []
    for length in sorted({min(context, wanted) for wanted in (37, 97, context // 2 + 1, context)}):
        walk = torch.randn(2, length, generator=generator).cumsum(1) * 5 + 20
        walk[:, length // 3] = math.nan
        counts = torch.poisson(torch.full((2, length), 0.3), generator=generator)
        flat = torch.tensor([[0.0], [7.0], [math.nan]]).expand(3, length)
        batches.append(torch.cat((walk, counts, flat)))
    return batches


def difference(net: nn.Module, graph: Path, context: int) -> float:
    """Largest difference of any number between PyTorch and the graph."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in samples(context):
        with torch.no_grad():
            ours = net(batch).numpy()
        theirs = session.run(None, {"series": batch.numpy()})[0]
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
