"""What a repair has to say for itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Account:
    """What was mended, and what could not be. Each entry has `what`, `where`, `detail` and facts."""

    repaired: list[dict[str, Any]] = field(default_factory=list)
    unrecoverable: list[dict[str, Any]] = field(default_factory=list)

    def mended(self, what: str, where: str, detail: str, **facts: Any) -> None:
        """Note something that is whole again."""
        self.repaired.append({"what": what, "where": where, "detail": detail, **facts})

    def lost(self, what: str, where: str, detail: str, **facts: Any) -> None:
        """Note something that nothing brings back."""
        self.unrecoverable.append({"what": what, "where": where, "detail": detail, **facts})
