"""Tests that need the training environment (PyTorch and chronos-forecasting): `make test-train`."""

from importlib.util import find_spec

needed = ("torch", "chronos", "onnxscript")
collect_ignore_glob = [] if all(find_spec(name) for name in needed) else ["test_*.py"]
