"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from random import Random

# 2**64 times any pause is beyond every cap; a larger power would only overflow a float.
_LARGEST_POWER = 64


def backoff(attempt: int, *, base_s: float, cap_s: float, random: Random) -> float:
    """Draw a pause in seconds: exponential growth with full jitter.

    The pause is uniform in ``[0, min(cap_s, base_s * 2**attempt)]``. Jitter over the whole range
    keeps many clients of one server that came back from arriving together; it is the "full jitter"
    of M. Brooker, *Exponential Backoff And Jitter* (AWS Architecture Blog, 2015).

    Args:
        attempt: how many tries have failed before this one, 0 for the first pause.
        base_s: upper bound of the first pause, seconds; above 0.
        cap_s: upper bound of every pause, seconds; at least `base_s`.
        random: source of the draw. A seeded one makes the pauses repeatable.

    Raises:
        ValueError: `attempt` is negative, or the bounds are not ``0 < base_s <= cap_s``.
    """
    if attempt < 0:
        raise ValueError(f"attempt = {attempt} is negative: count failed tries from 0")
    if not 0 < base_s <= cap_s:
        raise ValueError(f"base_s = {base_s:g}, cap_s = {cap_s:g}: need 0 < base_s <= cap_s")
    ceiling: float = min(cap_s, base_s * 2.0 ** min(attempt, _LARGEST_POWER))
    return random.uniform(0.0, ceiling)
