"""The acts of the ledger as Lua scripts: their text, and how one is run.

Rules
-----
* One EVALSHA is one act. A server that does not know the script (restarted, SCRIPT FLUSH, a replica promoted) is sent it once more.
* Not FUNCTION: that is missing before Redis 7 and on some services, and it needs a deployment of its own.
* Nothing is tried twice beyond that. An act either answers within the time limit or raises `LedgerUnavailable`; whether it was
  executed is then unknown. The same holds when the caller is cancelled while it waits: the server may still execute the act.
  Callers choose reservation ids themselves, so they can release what they never heard of.
* An error in a script is a bug, and is not turned into `LedgerUnavailable`.

A script's text is the keys' names, the clock, and the parts that the act needs, joined. The clock stands alone in `clock.lua`,
so that a test can put one that it controls in its place; production text has no hook.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from router.capacity.keyspace import lua_names, meta_key
from router.capacity.ledger import LedgerUnavailable

CONNECTIONS_MAX = 64
"""Acts in flight at once, per ledger object. One connection carries about 5,000 acts a second."""

Argument = str | bytes | int
Reply = list[Any]

PARTS: Mapping[str, tuple[str, ...]] = {
    "open": (),
    "register": ("expire",),
    "heartbeat": ("expire",),
    "drain": ("expire",),
    "detach": ("expire",),
    "reserve": ("expire",),
    "release": ("expire",),
    "sweep": ("expire",),
    "pools": ("expire",),
    "workers": ("expire",),
    "describe": (),
    "claim_request": ("budget",),
    "settle_request": (),
    "withdraw_retry": ("budget",),
    "grant_secret": (),
}
"""The acts, and what each includes besides the frame."""

_STORE_CODES = "BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOAUTH|NOPERM|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNKILLABLE|WRONGPASS"
_STORE_ERROR = re.compile(rf"(?:^|-)(?:{_STORE_CODES})\b|DB index is out of range")
"""The store's own troubles. Redis before 7 quotes the code of an error inside a script: `…: -OOM command not allowed…`."""


def source(name: str) -> str:
    """Text of one of the Lua files here."""
    return Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")


def script_text(act: str, region: str, clock: str) -> str:
    """Text of an act on a region that learns the time from the Lua in `clock`."""
    return "\n".join([lua_names(region), clock, source("act"), *(source(part) for part in PARTS[act]), source(act)])


def is_store_error(error: RedisError) -> bool:
    """True if the store or the way to it failed; False if a script did."""
    if not isinstance(error, ResponseError):
        return True
    code = getattr(error, "status_code", None)  # the client takes a code that it knows off the message
    return bool(_STORE_ERROR.search(f"{code} {error}" if code else str(error)))


class Scripts:
    """Runs acts on one region's ledger. Not tied to an event loop before the first act."""

    def __init__(self, url: str, region: str, clock: str, call_timeout_us: int) -> None:
        """Does not connect. Raises ValueError for a URL that is none, or a region name that holds braces."""
        self._timeout_s = call_timeout_us / 1e6
        self._key = meta_key(region)
        self._texts = {act: script_text(act, region, clock) for act in PARTS}
        self._digests = {act: hashlib.sha1(text.encode()).hexdigest() for act, text in self._texts.items()}
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=None,  # waiting for a connection counts towards the act's own limit
            socket_timeout=None,  # likewise
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        # The client's annotations join its synchronous and its asynchronous face, some are missing: typed at `_command`.
        self._client: Any = Redis.from_pool(pool)

    async def run(self, act: str, *arguments: Argument) -> Reply:
        """One act. Raises `LedgerUnavailable`; anything else is a bug in a script."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    reply = await self._command("EVALSHA", self._digests[act], 1, self._key, *arguments)
                except NoScriptError:
                    await self._command("SCRIPT LOAD", self._texts[act])
                    reply = await self._command("EVALSHA", self._digests[act], 1, self._key, *arguments)
        except TimeoutError as error:
            raise LedgerUnavailable(f"{act}: no answer from the store within {self._timeout_s:g} s") from error
        except (RedisError, OSError) as error:
            if isinstance(error, RedisError) and not is_store_error(error):
                raise
            raise LedgerUnavailable(f"{act}: {error}") from error
        return cast(Reply, reply)

    async def setting(self, name: str) -> str | None:
        """A setting of the server; None if it will not tell. Raises `LedgerUnavailable`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                pair = await self._command("CONFIG GET", name)
        except ResponseError:
            return None  # managed services deny CONFIG, or do not have it
        except TimeoutError as error:
            raise LedgerUnavailable(f"no answer from the store within {self._timeout_s:g} s") from error
        except (RedisError, OSError) as error:
            raise LedgerUnavailable(str(error)) from error
        return _setting_value(pair)

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.aclose(close_connection_pool=True)

    async def _command(self, *words: Argument) -> Any:
        return await cast(Awaitable[Any], self._client.execute_command(*words))


def _setting_value(pair: Any) -> str | None:
    """The value in a reply to CONFIG GET, which the client may have made a dictionary of."""
    values = list(pair.values()) if isinstance(pair, dict) else list(pair)[1:2]
    return values[0].decode() if values and isinstance(values[0], bytes) else (str(values[0]) if values else None)
