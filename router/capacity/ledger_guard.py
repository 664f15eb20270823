"""Keeps a dead ledger from slowing everybody down.

After a failed call the guard is down: every further act fails at once, without touching the store, until a probe succeeds.
Probes are few and paced (asyncio-throttle), so a store that comes back is not met by a crowd.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncio_throttle.throttler import Throttler

from router.capacity.ledger import LedgerMisconfigured, LedgerUnavailable, SlotLedger
from router.metrics import Metrics

PROBES_PER_S = 4

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class LedgerGuard:
    """The way to the slot ledger, with the state of that way."""

    def __init__(self, ledger: SlotLedger, metrics: Metrics) -> None:
        self.ledger = ledger
        self.epoch = 0
        self.up = False
        self._metrics = metrics
        self._went_down = asyncio.Event()
        self._pace = Throttler(rate_limit=PROBES_PER_S, period=1.0)

    async def act(self, name: str, call: Callable[[SlotLedger], Awaitable[_Answer]]) -> _Answer:
        """Carry one act out. Raises `LedgerUnavailable`, at once while the ledger is known to be down."""
        if not self.up:
            raise LedgerUnavailable("the slot ledger is down")
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await call(self.ledger)
        except LedgerUnavailable as error:
            self._set(False, str(error))
            raise
        finally:
            self._metrics.ledger_seconds(name).observe(clock() - began)

    def _set(self, up: bool, why: str = "") -> None:
        if up != self.up:
            _log.log(logging.INFO if up else logging.WARNING, "slot ledger is %s %s", "up" if up else "down:", why)
        self.up = up
        self._metrics.ledger_up.set(1 if up else 0)
        if not up:
            self._went_down.set()

    def note_epoch(self, epoch: int) -> None:
        """An answer showed a newer epoch: the ledger lost its memory and is being rebuilt."""
        if epoch > self.epoch:
            _log.warning("slot ledger epoch %d -> %d", self.epoch, epoch)
            self.epoch = epoch
            self._metrics.ledger_epoch.set(epoch)

    async def open(self) -> None:
        """First contact. Raises `LedgerUnavailable` or `LedgerMisconfigured`."""
        self.epoch = await self.ledger.open()
        self._metrics.ledger_epoch.set(self.epoch)
        self._set(True)

    async def keep_watch(self) -> None:
        """Probe a dead ledger until it answers; runs as long as the router does."""
        while True:
            await self._went_down.wait()
            self._went_down.clear()
            while not self.up:
                async with self._pace:
                    try:
                        await self.open()
                    except LedgerUnavailable:
                        continue
                    except LedgerMisconfigured as error:
                        _log.error("slot ledger refused: %s", error)
