"""What may enter an index or be asked of it: finite, normalised float32 rows."""

import numpy as np

from index.errors import VectorError
from index.store import NORM_TOLERANCE, Vectors


def check_vectors(vectors: Vectors, dimension: int, whose: str) -> Vectors:
    """Give `vectors` as a C-contiguous float32 array (n, dimension) after looking at every row.

    Args:
        vectors: the array to check; it is not copied unless it is not contiguous.
        dimension: expected length of a row.
        whose: the subject of the error message.

    Raises:
        VectorError: wrong type or shape, a row that is not finite or not of length 1.
    """
    array = np.asarray(vectors)
    if array.dtype != np.float32:
        raise VectorError(f"{whose}: dtype {array.dtype} where float32 is needed.")
    if array.ndim != 2 or array.shape[1] != dimension:
        raise VectorError(f"{whose}: shape {array.shape} where (n, {dimension}) is needed.")
    array = np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float32))
    # A NaN or an infinity anywhere in a row shows in its length.
    unfinished = ~np.isfinite(lengths)
    if unfinished.any():
        row = int(np.argmax(unfinished))
        raise VectorError(
            f"{whose}: row {row} is not finite, or far too long: NaN or infinity came in."
        )
    unequal = np.abs(lengths - 1) > NORM_TOLERANCE
    if unequal.any():
        row = int(np.argmax(unequal))
        raise VectorError(
            f"{whose}: row {row} has length {float(lengths[row]):.6f} where 1 is needed; "
            "divide each row by its norm."
        )
    return array
