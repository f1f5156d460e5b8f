"""A picture of a service in which everything has a value."""

from typing import Any


def full_picture() -> dict[str, Any]:
    """One detector, one day, one message in quarantine."""
    return {
        "intake": {
            "received": 12,
            "received_bytes": 12_000,
            "journaled": 10,
            "duplicates": 1,
            "late": 2,
            "filtered": 3,
            "quarantined": 1,
            "retried": 0,
            "refused": {"schema": 1},
        },
        "journal": {"durable": 10},
        "quarantine": {"reasons": {"schema": 1}, "dropped": {"schema": 0}},
        "detectors": [
            {
                "detector": "detector-01",
                "connected": True,
                "received": 12,
                "dropped": 0,
                "gaps_total": 1,
                "losses": {"lost": 3, "epochs": 1},
                "found": {
                    "scheme": "auto",
                    "schemes": {"chacha20poly1305-v1": 12, "secretbox-v0": 0},
                    "clock": "auto",
                    "clocks": {"epoch": 9, "boot": 3, "too old": 0, "none": 0},
                    "ip_byte_order": "reversed",
                    "filter": "logged",
                    "filtered": 3,
                    "identity": "node-id-time",
                },
            }
        ],
        "fold": {"folds": 1, "failures": 1, "last_seconds": 2.5},
        "days": [
            {
                "state": "degraded",
                "indices": {
                    "timeseries": {"state": "committed", "rows": 9},
                    "semantic": {"state": "committed", "rows": 4},
                    "attack": {"state": "failed", "rows": 0},
                },
            }
        ],
        "registry": {"connected": True, "reregistrations": 0},
        "disk": {"free_mb": 900, "room": True},
        "clock": {"doubted_by_s": 0.0},
    }
