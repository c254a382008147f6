"""Settings: what an operator can choose, read from the environment once and handed down.

Rules:
1. Only the command line makes a `Settings` object; nobody else reads the environment.
2. Every name carries its unit; every variable is `MASTERVIP_` + the name in capitals (`RAY_…` are Ray's own).
3. Limits that lean on each other are compared here: a contradiction is an error at start, not a surprise at night.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.credentials import check_key_ids
from gateway.identity.limits import KEY_LIFETIME_MS, KEY_PUBLISHED_BEFORE_MS
from gateway.ids import base32
from gateway.limits import RATES
from gateway.proxies import TrustedProxies
from gateway.rates import Rate
from storage.process import kept_password

HOSTS_MAX = 256
SUPERADMIN_EMAIL = "superadmin@localhost"
SUPERADMIN_PASSWORD_CHARS = 32  # 160 bits


def _cores() -> int:
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """What holds for one system. Immutable; made by the command line and passed to every process."""

    model_config = SettingsConfigDict(env_prefix="MASTERVIP_", frozen=True, extra="forbid", populate_by_name=True)

    # Where things are. Unset stores are started as our own, in `data`.
    data: Path = Path(".mastervip")
    bind_address: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65_535)
    postgres_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    ray_address: str | None = Field(None, validation_alias="RAY_ADDRESS")
    ray_auth_token_path: Path | None = Field(None, validation_alias="RAY_AUTH_TOKEN_PATH")
    master_secret: SecretStr | None = None
    token: SecretStr | None = Field(None, description="who asks, with `mastervip api` and `mastervip watch`")

    # How much of it. One host more than `hosts` runs as the warm standby.
    hosts: int = Field(default_factory=lambda: max(1, _cores() // 4), ge=1, le=HOSTS_MAX)
    gateways: int = Field(2, ge=1)
    gateways_max: int = Field(0, ge=0, description="as many as the load needs, up to so many; 0: always `gateways`")
    gateway_busy_aim: float = Field(0.65, gt=0, le=1, description="of a core; so much one of several is given to do")
    gateway_linger_s: float = Field(60.0, ge=0, description="how long one is not needed before it is taken away")
    projectors: int = Field(1, ge=1)
    partitions: int = Field(16, ge=1, le=100, description="fixed for the life of a data directory")
    host_resource: str = Field("", description="a Ray resource of which each host takes 1, so that SPREAD spreads them")

    unsafe_journal: bool = Field(False, description="run on stores that could lose acknowledged writes in a crash")
    projector_niceness: int = Field(5, ge=0, le=19, description="check-ins go before write-behind")
    redis_memory_bytes_max: int = Field(2 * 1024**3, ge=64 * 1024**2)
    object_store_bytes: int = Field(128 * 1024**2, ge=80 * 1024**2)
    postgres_connections_per_process: int = Field(4, ge=1)

    # Calls to hosts.
    submit_timeout_ms: int = Field(1_500, ge=1)
    collect_timeout_ms: int = Field(6_000, ge=1, description="above the time that a partition lets a message wait")
    actor_lookup_timeout_ms: int = Field(1_000, ge=1, description="asking Ray where a host is, and connecting to it")

    # Watching hosts and projectors.
    health_interval_ms: int = Field(150, ge=10)
    health_timeout_ms: int = Field(1_000, ge=50)
    beat_age_ms_max: int = Field(1_500, ge=50, description="a host whose loop stood still for so long counts as dead")
    start_grace_ms: int = Field(15_000, ge=0, description="how long the first decision waits for all hosts")
    release_timeout_ms: int = Field(2_000, ge=100)
    hung_kill_after_ms: int = Field(120_000, ge=1_000, description="a process silent for so long is killed")
    rebalance_after_ms: int = Field(10_000, ge=0, description="steady for so long before loads are levelled")
    status_interval_ms: int = Field(500, ge=50)

    # The edge.
    listen_backlog: int = Field(2_048, ge=16)
    keep_alive_s: int = Field(75, ge=1)
    head_timeout_s: float = Field(10.0, gt=0, description="from a request's first byte to the end of its headers")
    request_timeout_s: float = Field(30.0, gt=0, description="from a request's first byte to its last")
    write_timeout_s: float = Field(30.0, gt=0, description="a client that takes nothing of its answer for so long goes")
    connections_max: int = Field(30_000, ge=1, description="of one gateway, sockets included")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses and networks whose X-Forwarded-For and Forwarded are believed, with commas between"
    )
    rates: dict[str, str] = Field(
        default_factory=dict, description='other rates for limits of gateway/limits.py: {"rest-key": "50/s burst 100"}'
    )
    tls: bool = False
    tls_cert: Path | None = Field(
        None, description="PEM, the server's certificate first; unset: one of our own is made"
    )
    tls_key: Path | None = None
    drain_timeout_s: float = Field(10.0, gt=0)
    card_key_ids: Annotated[tuple[int, ...], NoDecode] = Field(
        (1,),
        description=(
            "keys whose card credentials are accepted, 0 to 255 with commas between; the last one signs. To rotate: "
            "2,1 (scanners without a network learn key 2), then 1,2 (it signs), then 2 once no card with key 1 is left"
        ),
    )

    # Accounts.
    jwt_issuer: str = Field("mastervip", min_length=1, max_length=100, description="`iss` of access tokens")
    jwt_audience: str = Field("mastervip", min_length=1, max_length=100, description="`aud` of access tokens")
    jwt_key_lifetime_s: int = Field(
        KEY_LIFETIME_MS // 1_000,
        gt=KEY_PUBLISHED_BEFORE_MS // 1_000,
        description="after which the key that signs access tokens is replaced",
    )
    mail_sender: str = "noreply@localhost"

    # Start and stop.
    start_timeout_s: float = Field(180.0, gt=0)
    store_poll_interval_ms: int = Field(50, ge=1)
    connection_refresh_ms: int = Field(400, ge=50, le=1_000)

    @field_validator("trusted_proxies", "card_key_ids", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        TrustedProxies(value)
        return value

    @field_validator("card_key_ids")
    @classmethod
    def _are_key_ids(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        check_key_ids(value)
        return value

    @field_validator("rates")
    @classmethod
    def _are_rates(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(value.keys() - RATES.keys())
        if unknown:
            raise ValueError(f"there is no limit {', '.join(unknown)}; the names are {', '.join(RATES)}")
        for rate in value.values():
            Rate.parse(rate)
        return value

    @model_validator(mode="after")
    def _relationships(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_cert is not None and not self.tls:
            raise ValueError("tls_cert and tls_key are for tls")
        if 0 < self.gateways_max < self.gateways:
            raise ValueError(f"gateways_max {self.gateways_max} is less than gateways, {self.gateways}")
        if self.head_timeout_s > self.request_timeout_s:
            raise ValueError("head_timeout_s must not exceed request_timeout_s")
        if self.health_interval_ms >= self.health_timeout_ms:
            raise ValueError("health_interval_ms must be below health_timeout_ms")
        if self.health_timeout_ms > self.submit_timeout_ms:
            raise ValueError(
                "health_timeout_ms must not exceed submit_timeout_ms: first placement changes, then calls end"
            )
        if self.hung_kill_after_ms <= self.health_timeout_ms:
            raise ValueError("hung_kill_after_ms must exceed health_timeout_ms")
        return self

    def host_names(self) -> list[str]:
        """The host actors, the standby included. Roles are not fixed: the standby is whichever owns nothing."""
        return [f"host-{number}" for number in range(self.hosts + 1)]

    def projector_names(self) -> list[str]:
        """The projector actors; number n takes the partitions with p mod projectors = n."""
        return [f"projector-{number}" for number in range(self.projectors)]

    def secret(self) -> bytes:
        """The secret that every other secret is derived from. Raises `ValueError` until `resolved` has put one in."""
        if self.master_secret is None:
            raise ValueError("the settings have no master secret")
        return self.master_secret.get_secret_value().encode()

    def superadmin_password(self) -> str:
        """The first password of the bootstrap SuperAdmin: derived, so the same at every start on one data directory."""
        digest = hmac.digest(self.secret(), b"mastervip superadmin password", hashlib.sha256)
        return base32(int.from_bytes(digest, "big"), SUPERADMIN_PASSWORD_CHARS)


def resolved(settings: Settings, *, postgres_url: str, redis_url: str) -> Settings:
    """What every process gets: absolute paths, the stores' addresses, and the master secret (made on first use)."""
    data = settings.data.resolve()
    secret = settings.master_secret or SecretStr(kept_password(data / "secret.key", may_create=True))
    return settings.model_copy(
        update={
            "data": data,
            "postgres_url": SecretStr(postgres_url),
            "redis_url": SecretStr(redis_url),
            "master_secret": secret,
        }
    )
