"""FAISS, loaded when something of it is first asked for.

The service keeps the books of its indices and never looks into them; its child and the questions do. Loading
the library reserves 160 MB for the threads of its BLAS and takes 60 ms.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """What FAISS has under that name (PEP 562). Raises AttributeError if it has nothing."""
    found = getattr(import_module("faiss"), name)
    globals()[name] = found
    return found
