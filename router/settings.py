"""What a router process is told at its start, checked before anything is opened."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from router.policy.parameters import ParameterError, Parameters, parameters
from router.topology import Topology, TopologyError, alone, load_topology

SECRET_ENV = "HOMEWARD_REGION_SECRET"
SECRET_CHARACTERS_MIN = 32
DRAIN_S_MAX = 86_400


class SettingsError(ValueError):
    """The router was started wrongly. The message is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked set of settings."""

    region: str
    listen: str
    redis_url: str
    topology: Topology
    parameters: Parameters
    metrics_listen: tuple[str, int] | None
    secret: bytes | None
    drain_s: float
    seed: int


def host_and_port(address: str, what: str) -> tuple[str, int]:
    """Split host:port. Raises `SettingsError`."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"{what} must be host:port, not {address!r}")
    return host.strip("[]"), int(port)


def load_parameters(path: Path | None) -> Parameters:
    """Policy parameters from a TOML file of overrides, or the defaults. Raises `SettingsError`."""
    if path is None:
        return parameters()
    try:
        return parameters(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read policy file {path}: {error}") from None
    except ParameterError as error:
        raise SettingsError(f"policy file {path}: {error}") from None


def secret_from_environment() -> bytes | None:
    """The region's grant secret, if one is configured. Raises `SettingsError` when it is too short to be one."""
    text = os.environ.get(SECRET_ENV)
    if text is None:
        return None
    if len(text) < SECRET_CHARACTERS_MIN:
        raise SettingsError(f"{SECRET_ENV} must have at least {SECRET_CHARACTERS_MIN} characters")
    return text.encode()


def check_settings(
    *,
    region: str,
    listen: str,
    redis_url: str | None,
    topology_path: Path | None,
    policy_path: Path | None,
    metrics_listen: str | None,
    drain_s: float,
    seed: int,
) -> Settings:
    """Build settings from what was given. Raises `SettingsError`."""
    if not redis_url:
        raise SettingsError("no slot ledger: give --redis-url redis://HOST:PORT/0 or set REDIS_URL (any Valkey or Redis from 6.2)")
    if not redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise SettingsError(f"--redis-url must start with redis://, rediss:// or unix://, not {redis_url.split(':')[0]!r}")
    try:
        parts = urlsplit(redis_url)
        parts.port  # noqa: B018  (it is checked when it is looked at)
    except ValueError as error:
        raise SettingsError(f"--redis-url is not a URL: {error}") from None
    if parts.query:
        raise SettingsError("--redis-url must not have options after '?': the router sets its own")
    if not 0 <= drain_s <= DRAIN_S_MAX:
        raise SettingsError(f"--drain-s must be from 0 to {DRAIN_S_MAX} seconds, not {drain_s:g}")
    if not 0 <= seed < 2**62:
        raise SettingsError(f"--seed must be from 0 to 2^62 - 1, not {seed}")
    host_and_port(listen, "--listen")
    try:
        topology = load_topology(topology_path) if topology_path else alone(region)
        topology.index(region)
    except TopologyError as error:
        raise SettingsError(str(error)) from None
    return Settings(
        region=region,
        listen=listen,
        redis_url=redis_url,
        topology=topology,
        parameters=load_parameters(policy_path),
        metrics_listen=host_and_port(metrics_listen, "--metrics-listen") if metrics_listen else None,
        secret=secret_from_environment(),
        drain_s=drain_s,
        seed=seed,
    )
