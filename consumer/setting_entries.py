"""What the reference says of each setting, read off the settings' own types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class SettingEntry(BaseModel):
    """One key of the reference: path, environment name, type, default and meaning."""

    key: str
    env: str
    type: str
    default: Any
    description: str


def entries_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[SettingEntry]:
    """Every key of `model`, in order; `path` is where the model itself stands."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from entries_of(kind, here)
            continue
        default = field.get_default(call_default_factory=True)
        yield SettingEntry(
            key=".".join(here),
            env="__".join(here).upper(),
            type=_type_name(kind),
            default=str(default) if isinstance(default, Path) else default,
            description=field.description or "",
        )


def _type_name(kind: Any) -> str:
    if isinstance(kind, type) and not hasattr(kind, "__args__"):
        return kind.__name__
    text = str(kind).replace("typing.", "").replace("pathlib.", "")
    for module in (
        "pydantic.types.",
        "consumer.settings.",
        "consumer.setting_registry.",
        "consumer.wire.profiles.",
    ):
        text = text.replace(module, "")
    return text
