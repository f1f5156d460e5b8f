"""Settings: one TOML file, every key also an environment variable, validated once at the edge.

Precedence, highest first: environment (`DAYFOLD_SECTION__KEY`), the file, the defaults below.
The file is the one given by `--config`, else `$DAYFOLD_CONFIG`, else `dayfold.toml` in the working
folder if it is there. An unknown key, a wrong type or an impossible pair refuses to start, with one
line per fault that names the key.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from consumer.errors import ConfigurationError
from consumer.setting_entries import SettingEntry, entries_of
from consumer.setting_faults import faults_of, unknown_key
from consumer.setting_registry import RegistrySettings
from consumer.setting_section import Section
from consumer.wire.profiles import NamedProfiles, Profiles, ProfileSettings

MIB = 1024 * 1024
INDEX_NAMES = ("timeseries", "semantic", "attack")


class DataSettings(Section):
    """Where the data folder is and how much of the disk may be used."""

    dir: Path = Field(Path("data"), description="Data folder: journals, catalogue, indices.")
    min_free_mb: int = Field(
        512,
        ge=0,
        description="Free space, in MiB, below which reception stops before the journal fails.",
    )


class KeySettings(Section):
    """One key from the settings; keys from the registry stand beside these."""

    id: str = Field(description="A name for the key, shown in logs instead of the key.")
    scheme: Literal["chacha20poly1305-v1", "secretbox-v0"] = Field(description="Wire scheme.")
    hex: SecretStr | None = Field(None, description="32 bytes as 64 hex digits.")
    file: Path | None = Field(None, description="File of exactly 32 bytes (seed.bin).")
    context: str = Field(
        "ml-defender:ml-detector-to-firewall:v1",
        description="HKDF context; used by chacha20poly1305-v1.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.hex is None) == (self.file is None):
            raise ValueError("give exactly one of hex and file")
        if self.hex is not None:
            text = self.hex.get_secret_value()
            try:
                right = len(bytes.fromhex(text)) == 32
            except ValueError:
                right = False
            if not right:
                raise ValueError(
                    f"hex must be 64 hex digits (32 bytes); it has {len(text)} letters"
                )
        return self


class EndpointSettings(Section):
    """One detector that is known without a registry."""

    name: str = Field(description="Name of the detector.")
    address: str = Field(description="Its PUB socket, such as tcp://10.0.0.5:5572.")
    curve_server_key: str | None = Field(None, description="Its CURVE public key, Z85.")


class DetectorSettings(Section):
    """Which detectors to listen to, besides those that the registry lists."""

    component: str = Field("ml-detector", description="Component name of detectors.")
    endpoints: tuple[EndpointSettings, ...] = Field((), description="Detectors known by address.")
    keys: tuple[KeySettings, ...] = Field((), description="Keys known without a registry.")
    key_grace_s: float = Field(
        3600.0, ge=0, description="Seconds for which a key past its not_after is still tried."
    )
    profile: ProfileSettings = Field(default_factory=ProfileSettings)
    profiles: NamedProfiles = Field((), description="Detectors unlike `detector.profile`, by name.")

    @property
    def all_profiles(self) -> Profiles:
        """Both, ready to be asked."""
        return Profiles(self.profile, self.profiles)


class SubscriberSettings(Section):
    """Reception from the wire."""

    handover_mb: int = Field(
        128,
        ge=1,
        description="Received but not yet admitted, in MiB; beyond it arrivals are dropped and counted.",
    )
    max_event_mb: int = Field(16, ge=1, description="Largest decompressed event, MiB.")
    heartbeat_ms: int = Field(2000, ge=100, le=3_600_000, description="ZeroMQ heartbeat interval.")
    heartbeat_timeout_ms: int = Field(
        6000, ge=200, le=3_600_000, description="ZeroMQ heartbeat timeout."
    )
    disconnect_grace_s: float = Field(
        30.0, ge=0, description="Seconds before a detector that left the registry is disconnected."
    )
    curve_public_key: str | None = Field(None, description="Our CURVE public key, Z85.")
    curve_secret_key: SecretStr | None = Field(None, description="Our CURVE secret key, Z85.")

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.curve_public_key is None) != (self.curve_secret_key is None):
            raise ValueError("curve_public_key and curve_secret_key belong together")
        if self.heartbeat_timeout_ms <= self.heartbeat_ms:
            raise ValueError("heartbeat_timeout_ms must be larger than heartbeat_ms")
        return self


class DaySettings(Section):
    """What a day is and when it closes."""

    timezone: str = Field("UTC", description="Time zone of the calendar day.")
    clock: Literal["wall", "event"] = Field(
        "wall",
        description="wall: the machine's clock closes days. event: the watermark does (replay).",
    )
    grace_s: float = Field(600.0, ge=0, description="Seconds after a day's end before it closes.")
    settle_s: float = Field(
        120.0, ge=0, description="Quiet seconds before late events reopen a closed day."
    )
    back_days: float = Field(7.0, gt=0, description="Oldest own time that is believed, in days.")
    ahead_s: float = Field(300.0, ge=0, description="Own times further ahead are quarantined.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("no such time zone: use a name such as Europe/Madrid") from error
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone, ready to use."""
        return ZoneInfo(self.timezone)


class JournalSettings(Section):
    """The durable record of a day's events."""

    segment_mb: int = Field(256, ge=1, description="A segment is closed at this size, MiB.")
    commit_interval_ms: int = Field(
        100, ge=1, description="Group commit: at most so much is at risk in a power cut."
    )


class RetentionSettings(Section):
    """Which journals are let go. Rows outlive journals; nothing goes before it is committed."""

    journal_days: int = Field(
        0, ge=0, description="Journals of days older than this are let go; 0 keeps them for ever."
    )
    journal_max_mb: int = Field(
        0, ge=0, description="Limit of all journals, MiB; the oldest days go first; 0 is no limit."
    )
    keep_days: int = Field(
        14, ge=1, description="Journals of so many days stay whatever their age and size."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.journal_days and self.journal_days < self.keep_days:
            raise ValueError(
                f"journal_days = {self.journal_days} must be at least keep_days = {self.keep_days}"
            )
        return self


class QuarantineSettings(Section):
    """Messages that could not be accepted."""

    max_mb: int = Field(256, ge=1, description="Limit per reason, MiB; the oldest go first.")
    max_age_days: float = Field(30.0, gt=0, description="Older ones are dropped and counted.")
    keep_mb: int = Field(
        0, ge=0, description="So much of each reason stays whatever its age, MiB, the latest."
    )

    @model_validator(mode="after")
    def _floor_below_limit(self) -> Self:
        if self.keep_mb > self.max_mb:
            raise ValueError(f"keep_mb = {self.keep_mb} must be at most max_mb = {self.max_mb}")
        return self


class FoldSettings(Section):
    """Embedding and committing closed days, in a child process."""

    memory_mb: int = Field(
        3072,
        ge=512,
        description="Memory limit of the child, MiB, without what its libraries only reserve.",
    )
    nice: int = Field(19, ge=0, le=19, description="Niceness of the child.")
    idle: bool = Field(
        False,
        description="The child gets only the time that no other process wants (SCHED_IDLE). "
        "On a machine whose cores are never idle a day then never closes.",
    )
    threads: int = Field(2, ge=1, description="Threads of one encoder.")
    batch_events: int = Field(2048, ge=1, description="Events parsed at a time.")
    timeout_s: float = Field(7200.0, gt=0, description="The child is ended after this time.")
    retry_base_s: float = Field(5.0, gt=0, description="First pause before an index is retried.")
    retry_cap_s: float = Field(1800.0, gt=0, description="Longest pause between two tries.")


class ModelSettings(Section):
    """Where the encoders' weights are kept."""

    cache_dir: Path | None = Field(
        None, description="Folder of downloaded weights; empty: the user's cache folder."
    )


class ApiSettings(Section):
    """HTTP for health, metrics and questions."""

    enabled: bool = Field(True, description="Serve HTTP.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8473, ge=0, le=65535, description="Port; 0 picks a free one.")
    token: SecretStr | None = Field(
        None, description="Bearer token; required when host is not loopback."
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.host not in {"127.0.0.1", "::1", "localhost"} and self.token is None:
            raise ValueError(f"host = {self.host!r} is not loopback: set a token")
        return self


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console for a terminal, JSON for a pipe."
    )


class Settings(BaseSettings):
    """Everything that can be set, section by section."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="DAYFOLD_", env_nested_delimiter="__"
    )

    data: DataSettings = Field(default_factory=DataSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    detector: DetectorSettings = Field(default_factory=DetectorSettings)
    subscriber: SubscriberSettings = Field(default_factory=SubscriberSettings)
    day: DaySettings = Field(default_factory=DaySettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    quarantine: QuarantineSettings = Field(default_factory=QuarantineSettings)
    fold: FoldSettings = Field(default_factory=FoldSettings)
    models: ModelSettings = Field(default_factory=ModelSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @model_validator(mode="after")
    def _keeps_what_may_be_added_to(self) -> Self:
        rule = self.retention
        if (rule.journal_days or rule.journal_max_mb) and rule.keep_days <= self.day.back_days:
            raise ValueError(
                f"retention.keep_days = {rule.keep_days} must be more than day.back_days = "
                f"{self.day.back_days:g}: events of those days may still come"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library calls by these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; the file arrives as the constructor's arguments."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """Read and validate the settings.

    A relative `data.dir` in a file is taken relative to that file's folder.

    Raises:
        ConfigurationError: the file is missing or not TOML, or settings are refused; one line per
            fault.
    """
    given = path or (Path(os.environ["DAYFOLD_CONFIG"]) if "DAYFOLD_CONFIG" in os.environ else None)
    chosen = given or Path("dayfold.toml")
    values: dict[str, Any] = {}
    if given is not None or chosen.exists():
        try:
            values = tomllib.loads(chosen.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigurationError(f"{chosen}: no such file; give one with --config") from error
        except OSError as error:
            raise ConfigurationError(f"{chosen}: cannot be read: {error.strerror}") from error
        # TOML's own errors are ValueErrors, and so is a number of more digits than Python reads. A
        # file can be made to nest deeper than the parser's stack.
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{chosen}: not valid TOML: {error}") from error
    # The library's own arguments begin with an underscore; they are none of the keys.
    unknown = [unknown_key(key) for key in values if key not in Settings.model_fields]
    try:
        settings = Settings(**{key: values[key] for key in values if key in Settings.model_fields})
    except ValidationError as error:
        raise ConfigurationError("\n".join([*unknown, *faults_of(error)])) from error
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}") from error
    if unknown:
        raise ConfigurationError("\n".join(unknown))
    _refuse_unknown_environment()
    data = values.get("data")
    if isinstance(data, dict) and "dir" in data and "DAYFOLD_DATA__DIR" not in os.environ:
        anchored = (chosen.parent / settings.data.dir).resolve()
        return settings.model_copy(
            update={"data": settings.data.model_copy(update={"dir": anchored})}
        )
    return settings


@cache
def _known_environment() -> frozenset[str]:
    keys = {f"DAYFOLD_{entry.env}" for entry in reference()}
    sections = {f"DAYFOLD_{name.upper()}" for name in Settings.model_fields}
    return frozenset({"DAYFOLD_CONFIG"} | keys | sections)


def _refuse_unknown_environment() -> None:
    known = _known_environment()
    unknown = [
        name for name in sorted(os.environ) if name.startswith("DAYFOLD_") and name not in known
    ]
    if unknown:
        raise ConfigurationError(
            "\n".join(f"{name}: unknown environment variable" for name in unknown)
        )


def reference() -> list[SettingEntry]:
    """Every key that can be set, in the order of the sections."""
    return list(entries_of(Settings))
