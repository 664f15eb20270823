"""Writes requirements.lock: the exact version of every package that `homeward[dev]` needs, except torch.

Run by `make lock`, with the interpreter whose versions are wanted. pip resolves in a fresh environment, so nothing installed
here has a say. torch stands in constraints-cpu.txt instead, and there are no hashes, because which build of it is right depends
on the machine and on the index. Names and versions only: no index and no path of the machine that made the lock.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = """\
# Exact versions of everything that homeward[dev] needs, except torch (see constraints-cpu.txt). Made by `make lock`.
# Used as a constraint: pip install -c constraints-cpu.txt -c requirements.lock -e '.[fleet]'
"""
LEFT_OUT = {"homeward", "torch"}
_PLAIN_VERSION = re.compile(r"[0-9][0-9A-Za-z.!]*")


def main() -> None:
    """Resolve and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        command = [f"{folder}/bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), "-c", "constraints-cpu.txt", ".[dev]"]
        subprocess.run(command, cwd=ROOT, check=True)
        pins = read_pins(json.loads(report.read_text()))
    (ROOT / "requirements.lock").write_text(HEADER + "".join(f"{pin}\n" for pin in pins))
    sys.stderr.write(f"requirements.lock: {len(pins)} packages\n")


def read_pins(report: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    """Return "name==version" for every package of pip's installation report, sorted."""
    pins = []
    for package in report["install"]:
        name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
        version = package["metadata"]["version"]
        if name not in LEFT_OUT:
            if _PLAIN_VERSION.fullmatch(version) is None:
                sys.exit(f"{name} {version} is a build of one machine and cannot be locked")
            pins.append(f"{name}=={version}")
    return sorted(pins)


if __name__ == "__main__":
    main()
