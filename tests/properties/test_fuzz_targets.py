"""Hostile bytes against every reader: what `make fuzz` does with a fuzzer, for a moment without."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import seeds
from tests.fuzz.targets import TARGETS

NESTED = 100_000
#: Inputs that once broke a target, or nearly did.
ONCE = {
    "http_answers": [b'{"components":' + b"[" * NESTED, b'{"seed":' + b'{"a":' * NESTED],
    "etcd_values": [b"[" * NESTED],
    "jsonl": [b'{"network":' + b"[" * NESTED],
    "settings": [b"a=" + b"[" * NESTED, b'[data]\ndir = "\\u0000"'],
    "seals": [b"[" * NESTED, b'{"a":' * NESTED],
    # A record that says it decompresses to four gigabytes.
    "segment": [bytes(32) + b"\1" + b"\xff" * 4 + b"lz4"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    return seeds(tmp_path_factory.mktemp("seeds"))


def test_every_target_has_something_to_begin_with(corpus: dict[str, list[bytes]]) -> None:
    assert {name for name, inputs in corpus.items() if inputs} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_product_writes_and_what_once_broke_it_is_read(
    name: str, corpus: dict[str, list[bytes]]
) -> None:
    for content in [b"", *corpus[name], *ONCE.get(name, [])]:
        TARGETS[name](content)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_end_in_the_errors_that_are_known(
    name: str, corpus: dict[str, list[bytes]]
) -> None:
    draw = random.Random(name)
    for _ in range(150):
        content = bytearray(draw.choice(corpus[name]))
        for _ in range(draw.randrange(1, 6)):
            _damage(content, draw)
        TARGETS[name](bytes(content))


def _damage(content: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(content) + 1)
    match draw.randrange(5):
        case 0 if content:
            content[min(at, len(content) - 1)] ^= 1 << draw.randrange(8)
        case 1:
            del content[at:]
        case 2:
            content[at:at] = draw.randbytes(draw.randrange(1, 9))
        case 3:
            content[at : at + 8] = draw.choice([b"\xff" * 8, bytes(8), b"9" * 40, b"[{\"'"])
        case _:
            content[at:at] = content[draw.randrange(len(content) + 1) :][:64]


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300))
def test_noise_ends_in_the_errors_that_are_known(name: str, content: bytes) -> None:
    TARGETS[name](content)
