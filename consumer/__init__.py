"""The service: from the detector's socket to committed days."""

__version__ = "0.1.0"
