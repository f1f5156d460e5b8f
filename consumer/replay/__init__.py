"""A stand-in for a detector: publishes recorded events on the real wire."""
