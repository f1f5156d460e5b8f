"""What the labels of recorded flows are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

BENIGN: Final = "BENIGN"
#: What data sets call ordinary traffic, in small letters.
_ORDINARY: Final = frozenset({"benign", "normal"})


def plain_labels(labels: Iterable[str | None]) -> NDArray[np.str_]:
    """The labels (n,) without blanks around them, all of ordinary traffic as `BENIGN`.

    Data sets write it "Benign" or "normal" too. A flow without a label is of the label "".
    """
    stripped = [(label or "").strip() for label in labels]
    return np.array(
        [BENIGN if label.casefold() in _ORDINARY else label for label in stripped], dtype=np.str_
    )
