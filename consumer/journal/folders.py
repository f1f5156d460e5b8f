"""The folders of the days, and the time zone that they were cut in."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from consumer.errors import JournalError
from consumer.journal.durable import replace_file

ZONE_NAME = "timezone"


def day_folders(root: Path) -> Iterator[tuple[date, Path]]:
    """Yield the days that have a folder below `root`, in order. Raises OSError."""
    for path in sorted(root.iterdir()):
        try:
            day = date.fromisoformat(path.name)
        except ValueError:
            continue
        if path.is_dir() and path.name == day.isoformat():
            yield day, path


def hold_zone(root: Path, zone: ZoneInfo) -> None:
    """Remember the time zone of the days below `root`, or check that it is still the same one.

    Raises JournalError if it is another: the days on the disk have other bounds. Raises OSError.
    """
    held = held_zone(root)
    if held is None:
        replace_file(root / ZONE_NAME, f"{zone.key}\n".encode())
    elif held.key != zone.key:
        raise JournalError(
            f"the days in {root} were cut in the time zone {held.key}, not {zone.key}: set "
            f"day.timezone back to {held.key}, or use another data.dir"
        )


def held_zone(root: Path) -> ZoneInfo | None:
    """Return the time zone of the days below `root`, None if none was remembered.

    Raises JournalError if it is not a time zone that this machine knows. Raises OSError.
    """
    path = root / ZONE_NAME
    try:
        name = path.read_bytes().decode().removesuffix("\n")
        return ZoneInfo(name)
    except FileNotFoundError:
        return None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JournalError(f"{path} does not name a time zone: {error}") from error
