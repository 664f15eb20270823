"""One decorator: compiled where numba is installed, plain Python where it is not.

The router runs the policy interpreted and must not need numba; the simulator compiles the same source. `register_jitable`
leaves the function an ordinary Python function and tells numba that it may compile it into a caller.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])


def _as_it_is(function: _Function) -> _Function:
    return function


_mark: Any = _as_it_is
with contextlib.suppress(ImportError):
    from numba.extending import register_jitable as _mark


def shared(function: _Function) -> _Function:
    """Mark a decision as shared by the interpreted router and the compiled simulator."""
    marked: _Function = _mark(function)
    return marked
