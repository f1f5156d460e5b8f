"""The section `[registry]` of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from consumer.setting_section import Section


class EtcdSettings(Section):
    """How to reach etcd."""

    endpoints: tuple[str, ...] = Field(
        ("127.0.0.1:2379",), description="host:port of every etcd member; tried in turn."
    )
    prefix: str = Field("/ml-defender", description="Key prefix of the deployment.")
    lease_ttl_s: int = Field(60, ge=2, description="Lease time to live, seconds.")
    heartbeat_s: float = Field(20.0, gt=0, description="Seconds between two heartbeats.")
    timeout_s: float = Field(5.0, gt=0, description="Limit of one call, seconds.")
    ca_cert: Path | None = Field(None, description="CA certificate; switches TLS on.")
    client_cert: Path | None = Field(None, description="Client certificate.")
    client_key: Path | None = Field(None, description="Client key.")
    user: str | None = Field(None, description="User name; needs TLS.")
    password: SecretStr | None = Field(None, description="Password; needs TLS.")

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            msg = (
                f"heartbeat_s = {self.heartbeat_s:g} must be at most half of lease_ttl_s = "
                f"{self.lease_ttl_s}: one missed heartbeat must not lose the lease"
            )
            raise ValueError(msg)
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together: set both or neither")
        if self.user is not None and self.ca_cert is None:
            raise ValueError("user and password need TLS: set ca_cert")
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key belong together: set both or neither")
        return self


class HttpSettings(Section):
    """How to reach the older registry that speaks plain HTTP."""

    urls: tuple[str, ...] = Field(
        ("http://127.0.0.1:2379",), description="http://host:port of every server; tried in turn."
    )
    heartbeat_s: float = Field(30.0, gt=0, le=45, description="Seconds between two heartbeats.")
    timeout_s: float = Field(5.0, gt=0, description="Limit of one call, seconds.")
    detectors: tuple[str, ...] = Field(
        (),
        description="Components whose stored configuration is asked for endpoints; empty: "
        "detector.component.",
    )


class RegistrySettings(Section):
    """Membership and discovery."""

    kind: Literal["etcd", "http", "static"] = Field(
        "etcd",
        description="etcd, http (the older registry), or static: endpoints and keys from these "
        "settings alone.",
    )
    component: str = Field("dayfold", description="Our component name on the registry.")
    instance: str = Field("", description="Our instance name; empty: host name and process id.")
    etcd: EtcdSettings = Field(default_factory=EtcdSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
