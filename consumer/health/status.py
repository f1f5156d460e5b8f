"""One picture of the running service, for every reader.

The service writes `run/status.json` in the data folder once a second, atomically. `dayfold status`,
the HTTP process, the metrics and the heartbeat on the registry all read this one picture, so they
cannot disagree, and none of their readers can hold up reception.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from consumer.wire.losses import LossLedger

log = structlog.get_logger("status")

STATUS_FILE = Path("run") / "status.json"
LOSSES_FILE = Path("run") / "losses.json"
# The service writes every second; a picture this old belongs to a service that hangs or is gone.
STALE_S = 10.0


def write_status(data_dir: Path, picture: Mapping[str, Any]) -> None:
    """Replace the picture atomically. It is not fsynced: it is worth nothing after a crash."""
    _replace(data_dir / STATUS_FILE, picture)


def write_losses(data_dir: Path, ledger: LossLedger) -> None:
    """Keep the loss ledger for the next start. Not fsynced: a power cut may cost its last second."""
    _replace(data_dir / LOSSES_FILE, ledger.to_json())


def read_losses(data_dir: Path) -> LossLedger:
    """The ledger of the last run, so that what was missed in between is counted; else a new one."""
    try:
        state = json.loads((data_dir / LOSSES_FILE).read_text(encoding="utf-8"))
        return LossLedger.from_json(state)
    except FileNotFoundError:
        return LossLedger()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("loss counts of the last run cannot be read", error=str(error))
        return LossLedger()


def _replace(target: Path, content: Mapping[str, Any]) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, separators=(",", ":"))
    draft.rename(target)


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """The latest picture, or None if no service ever wrote one that can be read.

    A power cut may leave it empty, because it is not synced.
    """
    try:
        picture: dict[str, Any] = json.loads((data_dir / STATUS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return picture


def is_live(picture: Mapping[str, Any], now_ns: int) -> bool:
    """Whether the picture is of a service that runs now: young, and its process alive."""
    if picture["service"]["state"] == "stopped":
        return False
    if now_ns - picture["written_ns"] > STALE_S * 1e9:
        return False
    try:
        os.kill(picture["service"]["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def unwell(picture: Mapping[str, Any], now_ns: int) -> list[str]:
    """Reasons why the service is not ready to receive; empty when it is."""
    reasons: list[str] = []
    if not is_live(picture, now_ns):
        return ["the service is not running, or has not reported for ten seconds"]
    if picture["service"]["state"] != "running":
        reasons.append(f"the service is {picture['service']['state']}")
    if picture["disk"].get("refused"):
        reasons.append(f"reception is stopped: {picture['disk']['refused']}")
    elif not picture["disk"]["room"]:
        reasons.append(
            f"reception is stopped: {picture['disk']['free_mb']} MiB free, "
            f"data.min_free_mb = {picture['disk']['min_free_mb']}"
        )
    reasons += [f"the {name} thread has ended" for name in picture["service"]["ended_threads"]]
    return reasons


def for_registry(picture: Mapping[str, Any]) -> dict[str, Any]:
    """What the other components see of us: state and counters, without paths or day details."""
    return {
        "status": picture["service"]["state"],
        "last_event_ns": picture["journal"]["watermark_ns"],
        "open_days": picture["journal"]["open_days"],
        "indices": {
            day["day"]: {name: facts["state"] for name, facts in day["indices"].items()}
            for day in picture["days"][-7:]
        },
        "received": picture["intake"]["received"],
        "journaled": picture["intake"]["journaled"],
        "duplicates": picture["intake"]["duplicates"],
        "quarantined": picture["intake"]["quarantined"],
        "lost": sum(link["losses"]["lost"] for link in picture["detectors"]),
        "disk_room": picture["disk"]["room"],
        "api": picture["service"]["api"],
    }
