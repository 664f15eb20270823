"""The real `homeward` command, in processes of its own, with a state folder of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOMEWARD = Path(sys.executable).with_name("homeward")
COMMAND_S_MAX = 60.0


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON document."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The line that says what went wrong."""
        return self.err.splitlines()[-1]


class CommandLine:
    """Runs `homeward` for a user whose state is in `state` and who works in `folder`."""

    def __init__(self, state: Path, folder: Path) -> None:
        foreign = ("HOMEWARD_ROUTER", "HOMEWARD_DEBUG", "REDIS_URL", "COLUMNS", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in foreign}
        self.environment |= {"XDG_STATE_HOME": str(state), "NO_COLOR": "1", "TMPDIR": str(folder)}
        self.folder = folder

    def __call__(self, *arguments: object) -> Ran:
        """Run to the end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=COMMAND_S_MAX)
        finally:
            process.kill()
            process.wait()
        return Ran(process.returncode, out, err)

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Start only."""
        return subprocess.Popen(
            [str(HOMEWARD), *(str(argument) for argument in arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
