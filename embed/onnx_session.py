"""The only place that knows ONNX Runtime: loads a checked graph and runs it.

Options are an allow-list. Threads do not spin while they wait, so that a fold at low priority
leaves the processor to reception; results do not depend on anything but the inputs and the number
of threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Since 1.32 the runtime's own builds collect events for its makers and send them when there is a
# network. Nobody is told anything from here; it must be said before the import (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

from embed.rows import ModelFacts
from models.errors import ModelRunError
from models.store import ModelFiles

PROVIDERS = ("CPUExecutionProvider",)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What may be set, and nothing else.

    Attributes:
        threads: threads inside one operator.
        arena: let the runtime keep memory between runs. Worth it where input shapes are few.
    """

    threads: int = 2
    arena: bool = True

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"an encoder needs at least 1 thread, not {self.threads}")


class OnnxSession:
    """One encoder, ready to run.

    Args:
        files: the model's files as `models.store.locate` returned them, digests checked.
        inputs: names that the graph must have as its inputs.
        output: the output that is read.
        width: size of the output's last axis.
        options: see `SessionOptions`.

    Raises:
        ModelRunError: the graph cannot be loaded, or has other inputs, output or width.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        inputs: tuple[str, ...],
        output: str,
        width: int,
        options: SessionOptions | None = None,
    ) -> None:
        self._name = files.entry.name
        self._output = output
        self._width = width
        try:
            self._session = runtime_session(str(files.graph), options or SessionOptions())
        except Exception as error:
            # The runtime raises a family of unrelated types; all mean the same here.
            raise ModelRunError(
                f"model {self._name}: {files.graph} cannot be loaded: {_first_line(error)}; run "
                "`dayfold models verify`"
            ) from error
        self._check(inputs)

    def _check(self, inputs: tuple[str, ...]) -> None:
        has = {item.name for item in self._session.get_inputs()}
        outputs = {item.name: item.shape for item in self._session.get_outputs()}
        if has != set(inputs) or self._output not in outputs:
            raise ModelRunError(
                f"model {self._name}: the graph takes {sorted(has)} and gives {sorted(outputs)}; "
                f"needed are {sorted(inputs)} and {self._output!r}"
            )
        width = outputs[self._output][-1]
        if isinstance(width, int) and width != self._width:
            raise ModelRunError(
                f"model {self._name}: the graph's vectors are {width} wide, the manifest says "
                f"{self._width}"
            )

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Run once; every input has one row per item.

        Returns:
            float32 (n, width).

        Raises:
            ModelRunError: the runtime refused the input, or the output is not finite.
        """
        try:
            (result,) = self._session.run([self._output], dict(feeds))
        except Exception as error:
            shapes = {name: value.shape for name, value in feeds.items()}
            raise ModelRunError(
                f"model {self._name}: refused inputs of shape {shapes}: {_first_line(error)}"
            ) from error
        vectors: NDArray[np.float32] = np.asarray(result, dtype=np.float32)
        rows = len(next(iter(feeds.values())))
        if vectors.shape != (rows, self._width):
            raise ModelRunError(
                f"model {self._name}: gave {vectors.shape} for {rows} rows, expected "
                f"{(rows, self._width)}"
            )
        if not np.isfinite(vectors).all():
            raise ModelRunError(
                f"model {self._name}: gave values that are not finite; run `dayfold models verify`"
            )
        return vectors


def runtime_session(graph: str | bytes, options: SessionOptions) -> Any:
    """The runtime's own session of a graph, by its path or its content; raises what the runtime raises."""
    return onnxruntime.InferenceSession(graph, _native(options), providers=list(PROVIDERS))


def model_facts(files: ModelFiles, *, recipe: int) -> ModelFacts:
    """What is recorded with the rows that this model makes."""
    return ModelFacts(files.entry.name, files.entry.digest, recipe)


def _native(options: SessionOptions) -> Any:
    native = onnxruntime.SessionOptions()
    native.intra_op_num_threads = options.threads
    native.inter_op_num_threads = 1
    native.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    native.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    native.enable_cpu_mem_arena = options.arena
    native.use_deterministic_compute = True
    native.log_severity_level = 3
    native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return native


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
