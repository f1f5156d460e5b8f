"""What every section of the settings has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

#: Largest number that any setting takes: 30 years in seconds, a petabyte in MiB. What is larger is a
#: mistake, and would not fit into what timers and files count with.
LARGEST = 1_000_000_000


class Section(BaseModel):
    """A section: no unknown keys, no change after it was read, and values that can be meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError("a number is needed")
        return value

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        if isinstance(value, Path) and "\0" in str(value):
            raise ValueError("no path has a NUL character in it")
        # No comparison holds for what is not a number.
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise ValueError(f"a number of at most {LARGEST} is needed")
        return value
