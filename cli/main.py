"""The entry point of `homeward`: runs the commands and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 it worked, 1 it failed (also when Ctrl-C cancelled it), 2 it was asked wrongly. Data goes to standard output,
everything else to standard error. With `--json` a failure is a document too: `{"error": {…}}`. No traceback is ever shown,
unless HOMEWARD_DEBUG=1 asks for it.
"""

import contextlib
import errno
import importlib.util
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.failure import Failure


def main() -> None:
    """Run `homeward` with the arguments of this process."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _interrupt)
    _replace_closed_streams()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the command itself, for example while gRPC is being imported
        sys.stderr.write("homeward: interrupted\n")
        code = 1
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    from cli.failure import Failure, failure_of
    from homeward import HomewardError

    wants_json = "--json" in arguments
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            missing = f"the command line needs {package}: pip install 'homeward[cli]'"
            return _complain(Failure(missing, kind="MissingPackage"), wants_json)
    from typer import Abort
    from typer.exceptions import TyperException

    from cli.application import app

    try:
        # What a command returns is its exit code; None is success. Typer reports Ctrl-C as 130.
        code = app(args=list(arguments), prog_name="homeward", standalone_mode=False)
        if code == 130:
            return _complain(Failure("interrupted", kind="Interrupted"), wants_json)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, Abort):
        return _complain(Failure("interrupted", kind="Interrupted"), wants_json)
    except TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "homeward")
        message = f"{_one_line(error.format_message())} (see {where} --help)"
        return _complain(Failure(message, exit_code=error.exit_code, kind="Usage"), wants_json)
    except (Failure, HomewardError) as error:
        _maybe_raise(error)
        return _complain(failure_of(error), wants_json)
    except BrokenPipeError:
        # The reader of our output went away, for example `head`. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _maybe_raise(error)
        where = f": {error.filename}" if error.filename else ""
        return _complain(Failure(f"{error.strerror or error}{where}", kind="OSError"), wants_json)
    except Exception as error:
        _maybe_raise(error)
        message = f"defect in homeward: {type(error).__name__}: {_one_line(str(error))} (HOMEWARD_DEBUG=1 shows where)"
        return _complain(Failure(message, kind="Defect"), wants_json)


def _complain(failure: "Failure", wants_json: bool) -> int:
    if wants_json:
        with contextlib.suppress(OSError):  # it is closed, or its reader is gone: the exit code and the line still tell
            sys.stdout.write(json.dumps({"error": failure.document()}, indent=2) + "\n")
            sys.stdout.flush()
    sys.stderr.write(f"homeward: {_one_line(failure.message)}\n")
    return failure.exit_code


def _one_line(text: str) -> str:
    """Make one printable line of it, whatever a router or a file name contains."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))


def _maybe_raise(error: BaseException) -> None:
    if os.environ.get("HOMEWARD_DEBUG") == "1":
        raise error


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM and SIGHUP like Ctrl-C: calls are cancelled, temporary files removed."""
    raise KeyboardInterrupt


class _ClosedOutput(io.TextIOBase):
    """Standard output that was closed before we started (`>&-`)."""

    def write(self, text: str) -> int:
        """Refuse, if there is something to write."""
        if text:
            raise OSError(errno.EBADF, "standard output is closed, so nothing could be written to it")
        return 0


def _replace_closed_streams() -> None:
    """Put something in the place of standard streams that Python found closed and left as None."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file or socket got this number, and whatever libraries write to standard error got into it.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _ClosedOutput()
    sys.stderr = sys.stderr or io.StringIO()
