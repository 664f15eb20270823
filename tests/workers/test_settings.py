"""The command line: what is accepted, and that everything else is one clear line."""

import logging

import pytest

from workers.settings import WorkerSettings, parse_settings

LEAST = ("--region", "us-east", "--router", "router:7000", "--name", "gpu-1")


def test_the_least_there_is_to_say() -> None:
    assert parse_settings(LEAST) == WorkerSettings("us-east", ("router:7000",), "gpu-1")


def test_all_there_is_to_say() -> None:
    more = "--router [::1]:7001 --slots 4 --listen 0.0.0.0:7002 --advertise gpu-1:7002 --model animate --threads 8"
    given = parse_settings([*LEAST, *more.split(), "--drain-s", "2.5", "--log-level", "debug"])
    assert given == WorkerSettings(
        region="us-east",
        routers=("router:7000", "[::1]:7001"),
        worker="gpu-1",
        slots=4,
        listen_host="0.0.0.0",
        listen_port=7002,
        advertise="gpu-1:7002",
        models=("animate",),
        threads=8,
        drain_s=2.5,
        log_level=logging.DEBUG,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "the following arguments are required: --region, --router, --name"),
        ("--region us/east --router a:1 --name n", "--region: 'us/east' is not 1 to 64 characters"),
        (f"--region r --router a:1 --name {'n' * 65}", "is not 1 to 64 characters"),
        ("--region r --router a:1 --name {n}", "is not 1 to 64 characters"),
        ("--region r --router a --name n", "'a' is not HOST:PORT"),
        ("--region r --router :1 --name n", "':1' is not HOST:PORT"),
        ("--region r --router a:65536 --name n", "is not HOST:PORT"),
        ("--region r --router ::1:5 --name n", "is not HOST:PORT"),
        ("--region r --router a:-1 --name n", "is not HOST:PORT"),
        ("--region r --router a:1 --name n --slots 0", "--slots: '0' is not a whole number from 1 to 1024"),
        ("--region r --router a:1 --name n --slots 1025", "is not a whole number"),
        ("--region r --router a:1 --name n --slots 9999999999999999999999", "is not a whole number"),
        ("--region r --router a:1 --name n --slots 1.5", "is not a whole number"),
        ("--region r --router a:1 --name n --threads x", "is not a whole number from 1 to 256"),
        ("--region r --router a:1 --name n --drain-s nan", "is not a number of seconds"),
        ("--region r --router a:1 --name n --drain-s -1", "is not a number of seconds"),
        ("--region r --router a:1 --name n --drain-s x", "is not a number of seconds"),
        ("--region r --router a:1 --name n --model dance", "invalid choice: 'dance'"),
        ("--region r --router a:1 --name n --listen 0.0.0.0:0", "--advertise: needed"),
        ("--region r --router a:1 --name n --advertise a:0", "the port must not be 0"),
        ("--region r --router a:1 --name n --log-level loud", "invalid choice: 'loud'"),
        ("--region r --router a:1 --name n --slot 1", "unrecognized arguments: --slot 1"),
        ("--region r --name n " + "--router a:1 " * 65, "--router: at most 64"),
    ],
)
def test_wrong_arguments(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_settings(arguments.split())
    assert exit_.value.code == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert says in error
