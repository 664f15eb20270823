"""Writing the result: whole or not at all, and refused before any GPU works for it.

A temporary file in the folder of the result is made first, which proves that the folder can be written; at the end it is
synced and renamed over the result. Whatever goes wrong in between, it is removed and an older result stays as it was.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cli.failure import Failure, asked_wrongly


class OutputFile:
    """A file that appears when `commit` is called."""

    def __init__(self, path: Path, temporary: Path, descriptor: int) -> None:
        self.path = path
        self._temporary = temporary
        self._descriptor = descriptor

    def commit(self, content: bytes) -> None:
        """Write the content and give the file its name. Raises `Failure` when the disk does not take it."""
        try:
            with os.fdopen(os.dup(self._descriptor), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        except OSError as error:
            raise Failure(f"cannot write {self.path}: {error.strerror}", kind="OSError") from error


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[OutputFile]:
    """Prepare `path`. Raises `Failure` (asked wrongly) when it cannot be written."""
    if str(path) == "-":
        raise asked_wrongly("the animation cannot go to standard output: name a file")
    try:
        target = path.resolve()  # through a symbolic link, the file that it names is replaced
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = None
        # Its name is short whatever the result is called: a name may have 255 bytes.
        temporary = target.with_name(f".homeward-{secrets.token_hex(8)}.part")
    except (OSError, RuntimeError) as error:
        raise asked_wrongly(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise asked_wrongly(f"{path} is a folder: name a file in it, for example {path / 'out.webp'}")
    if mode is not None and not stat.S_ISREG(mode):
        raise asked_wrongly(f"{path} is no regular file")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise asked_wrongly(f"cannot write in {path.parent}: {error.strerror}") from error
    try:
        yield OutputFile(target, temporary, descriptor)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
