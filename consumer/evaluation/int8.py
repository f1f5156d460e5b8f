"""The sentence encoder quantised to 8 bits, to be compared; nothing is shipped of it."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from models.store import ModelFiles


@contextmanager
def quantised(files: ModelFiles) -> Iterator[ModelFiles | None]:
    """The encoder with int8 weights per channel, in a folder that goes with the block.

    None when the package `onnx`, which is needed for development only, is not installed.
    """
    if find_spec("onnx") is None:
        yield None
        return
    # Quantising needs onnx, and a machine that only runs the service does not have it.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="int8-") as scratch:
        # Copies, because the quantiser writes beside its input and refuses files with two names.
        source = Path(scratch) / files.graph.name
        for path in (files.graph, *files.extra.values()):
            shutil.copyfile(path, source.with_name(path.name))
        graph = source.with_suffix(".int8.onnx")
        # Its advice to run a pre-processing step would be the only line on standard error.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(source, graph, per_channel=True, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        yield dataclasses.replace(files, graph=graph)
