"""Programs that train, measure and export the two encoders of our own; they need PyTorch."""

import os

# As in embed.onnx_session: ONNX Runtime reports to its makers unless it is told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
