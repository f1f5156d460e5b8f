"""Makes batches of synthetic series ahead of the training, in as many processes as are given.

Batch number b of seed s is the same whoever makes it, and batches come in the order of their
numbers: the count of processes changes the speed of a training and nothing else.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from models.training.series import Array, Maker

PATCH = 16
LARGEST = 1e12  # what is larger than this is taken for an overflow
# Contexts, and how often each range of them is drawn. A fixed set keeps a GPU's plans and memory.
CONTEXTS = (
    ((24, 30, 40, 60), 0.10),
    ((72, 84, 96, 120, 144), 0.17),
    ((168, 192, 240, 251, 288), 0.25),
    ((336, 384, 427, 512, 600), 0.25),
    ((720, 900, 1152), 0.10),
    ((1440, 1470), 0.10),
    ((1680, 1984), 0.03),
)
AHEAD_OF_TRAINING = 3  # batches in the making per process

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
Batches = Generator[Batch, None, None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all batches of a run have in common.

    Attributes:
        seed: of all batches.
        tokens: patches of a batch, about.
        least, most: series of a batch.
        horizon: steps after the context.
        bank: day series of real flows.
    """

    seed: int
    tokens: int
    least: int
    most: int
    horizon: int
    bank: tuple[Array, ...]


def context_of(rng: np.random.Generator) -> int:
    """The length of a batch's context."""
    contexts, _ = CONTEXTS[rng.choice(len(CONTEXTS), p=[share for _, share in CONTEXTS])]
    return int(rng.choice(contexts))


def made(plan: Plan, number: int) -> Batch:
    """Batch `number`: series (n, context + horizon), and the kind (n,) of each."""
    maker = Maker(0, list(plan.bank))
    maker.rng = np.random.default_rng((plan.seed, number))
    context = context_of(maker.rng)
    patches = (context + plan.horizon) // PATCH + 1
    size = int(np.clip(plan.tokens // patches, plan.least, plan.most))
    rows, kinds = maker.batch(size, context + plan.horizon)
    return np.where(np.abs(rows) > LARGEST, 0, rows).astype(np.float32), kinds


_plan: list[Plan] = []  # of a worker process


def _begin(plan: Plan) -> None:
    _plan[:] = [plan]


def _work(number: int) -> Batch:
    return made(_plan[0], number)


def supply(plan: Plan, first: int, workers: int) -> Batches:
    """Batches from number `first` on, without end; ends its processes when it is closed."""
    if workers == 0:
        yield from (made(plan, number) for number in count(first))
        return
    pool = ProcessPoolExecutor(workers, get_context("fork"), _begin, (plan,))
    try:
        numbers = count(first)
        waiting: deque[Future[Batch]] = deque()
        while True:
            while len(waiting) < AHEAD_OF_TRAINING * workers:
                waiting.append(pool.submit(_work, next(numbers)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
