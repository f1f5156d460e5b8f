import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.errors import JournalLockedError
from consumer.journal import DataLock


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    with (
        DataLock(tmp_path),
        pytest.raises(JournalLockedError, match=rf"{tmp_path} is in use by process {os.getpid()}"),
        DataLock(tmp_path),
    ):
        pass


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with DataLock(tmp_path) as lock:
            assert lock is not None


def test_the_folder_is_made_if_it_is_not_there(tmp_path: Path) -> None:
    with DataLock(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_lock_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from consumer.journal import DataLock\n"
        "with DataLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalLockedError, match=str(holder.pid)), DataLock(tmp_path):
            pass
        holder.kill()
    with DataLock(tmp_path) as lock:
        assert lock is not None
