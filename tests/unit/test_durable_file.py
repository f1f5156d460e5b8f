import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from index.durable_file import DurableFile, sync_folder, write_durably
from index.errors import StoreWriteError


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond `size` fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_file_appears_with_its_content_and_only_for_its_owner(tmp_path: Path) -> None:
    digest = write_durably(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert digest == hashlib.sha256(b"content").hexdigest()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_shows_before_the_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with DurableFile(tmp_path / "a") as file:
        file.write(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def write_and_fail() -> None:
        with DurableFile(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_the_checksum_is_of_what_the_file_holds_even_after_overwriting(tmp_path: Path) -> None:
    with DurableFile(tmp_path / "a", patched=True) as file:
        file.write(b"0000")
        file.write(memoryview(b"body" * 1_000_000))
        assert file.size == 4_000_004
        file.overwrite(0, b"1234")
        digest = file.sha256()
    assert digest == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()
    assert (tmp_path / "a").read_bytes()[:8] == b"1234body"


def test_the_name_can_be_chosen_last(tmp_path: Path) -> None:
    with DurableFile(tmp_path / "a") as file:
        file.write(b"content")
        assert file.publish("b") == tmp_path / "b"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with files_of_at_most(100_000), pytest.raises(StoreWriteError, match=str(tmp_path / "a")):
        write_durably(tmp_path / "a", b"x" * 200_000)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreWriteError, match="gone"):
        DurableFile(tmp_path / "gone" / "a")
    with pytest.raises(StoreWriteError, match="gone"):
        sync_folder(tmp_path / "gone")


def test_only_a_file_opened_for_it_can_be_overwritten(tmp_path: Path) -> None:
    with DurableFile(tmp_path / "a") as file:
        file.write(b"0000")
        with pytest.raises(ValueError, match="not opened to be patched"):
            file.overwrite(0, b"1")
