"""The kernel is asked for a larger buffer only where it gives one."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.reception.link import KERNEL_BUFFER, LEAST_BUFFER, kernel_buffer

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ("212992\n", None),
        (f"{LEAST_BUFFER - 1}", None),
        (f"{3 * MIB}", 3 * MIB),
        (f"{64 * MIB}", KERNEL_BUFFER),
        ("unlimited", None),
        ("", None),
    ],
)
def test_a_small_limit_is_left_to_the_kernel(tmp_path: Path, limit: str, asked: int | None) -> None:
    path = tmp_path / "rmem_max"
    path.write_text(limit)
    assert kernel_buffer(path) == asked


def test_a_limit_that_cannot_be_read_is_left_to_the_kernel(tmp_path: Path) -> None:
    assert kernel_buffer(tmp_path / "none") is None
