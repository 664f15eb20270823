"""Settings: one line for everything that was started wrongly."""

from pathlib import Path
from typing import Any

import pytest

from router.settings import SECRET_ENV, Settings, SettingsError, check_settings, host_and_port


def check(**changes: Any) -> Settings:
    usual: dict[str, Any] = {
        "region": "us-east", "listen": "127.0.0.1:0", "redis_url": "redis://127.0.0.1:6379/0", "topology_path": None,
        "policy_path": None, "metrics_listen": None, "drain_s": 120.0, "seed": 0,
    }  # fmt: skip
    return check_settings(**(usual | changes))


def test_right_settings() -> None:
    settings = check(metrics_listen="[::1]:9100")
    assert settings.topology.names == ("us-east",)
    assert settings.metrics_listen == ("::1", 9100)
    assert settings.secret is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"redis_url": None}, "no slot ledger"),
        ({"redis_url": ""}, "no slot ledger"),
        ({"redis_url": "http://127.0.0.1"}, "must start with redis://"),
        ({"redis_url": "redis://127.0.0.1:port"}, "not a URL"),
        ({"redis_url": "redis://127.0.0.1:99999"}, "not a URL"),
        ({"redis_url": "redis://[::1/0"}, "not a URL"),
        ({"listen": "7411"}, "--listen must be host:port"),
        ({"listen": "host:"}, "--listen must be host:port"),
        ({"listen": "host:99999"}, "--listen must be host:port"),
        ({"listen": "host:-1"}, "--listen must be host:port"),
        ({"metrics_listen": "nowhere"}, "--metrics-listen must be host:port"),
        ({"region": "US"}, "region name 'US'"),
        ({"region": ""}, "region name ''"),
        ({"drain_s": -1.0}, "--drain-s must be"),
        ({"drain_s": float("nan")}, "--drain-s must be"),
        ({"drain_s": float("inf")}, "--drain-s must be"),
        ({"seed": -1}, "--seed must be"),
        ({"seed": 2**62}, "--seed must be"),
        ({"topology_path": Path("/nonexistent/topology.toml")}, "cannot read topology file"),
        ({"policy_path": Path("/nonexistent/policy.toml")}, "cannot read policy file"),
    ],
)
def test_wrong_settings_are_told_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        check(**changes)
    assert "\n" not in str(error.value)


def test_a_region_that_the_topology_lacks(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text('[[regions]]\nname = "eu-west"\n[network]\nrings = [[0]]\nrtt_ms = [[0]]\n')
    with pytest.raises(SettingsError, match="unknown region 'us-east'; the topology knows eu-west"):
        check(topology_path=path)


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("attempts_max = 3\n")
    assert check(policy_path=path).parameters.attempts_max == 3
    path.write_text("attempt_max = 3\n")
    with pytest.raises(SettingsError, match="did you mean 'attempts_max'"):
        check(policy_path=path)
    path.write_text("attempts_max = \n")
    with pytest.raises(SettingsError, match="cannot read policy file"):
        check(policy_path=path)


def test_the_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, "short")
    with pytest.raises(SettingsError, match=SECRET_ENV) as error:
        check()
    assert "short'" not in str(error.value), "a secret is never printed"
    monkeypatch.setenv(SECRET_ENV, "s" * 32)
    assert check().secret == b"s" * 32


def test_hosts_and_ports() -> None:
    assert host_and_port("[::1]:80", "x") == ("::1", 80)
    assert host_and_port("localhost:0", "x") == ("localhost", 0)
