"""The slot ledger on Valkey or Redis: every act is one Lua script, run atomically where the data is.

The rules are in the scripts (`reserve.lua`, `release.lua`, …, each with its own header; `act.lua` for time, epoch and lost
memory) and in `keyspace.py` (what is stored). This file turns arguments into strings and replies into values.

Each object remembers the highest epoch and fence that it has seen and sends them along, so that a store that forgot them (a
failover that lost writes) notices at the next act.
"""

import json
from collections.abc import Iterable
from typing import ClassVar

from router.capacity.keyspace import group_name, pool_name
from router.capacity.ledger import (
    HeartbeatSeen,
    LedgerMisconfigured,
    LedgerTimings,
    PoolStatus,
    Refused,
    Registered,
    RequestClaim,
    ReservationRequest,
    Reserved,
    SlotLedger,
    VariantOffer,
    WorkerRegistration,
    WorkerStatus,
)
from router.capacity.scripts import Argument, Reply, Scripts, source
from router.policy.parameters import RETRY_BUDGET_TOKENS_MAX, RETRY_BUDGET_WINDOW_S
from router.policy.vocabulary import Refusal

DESCRIBED_AT_ONCE = 100
"""Workers read in one script call: 1 to 2 ms of the server."""


class ValkeyLedger(SlotLedger):
    """A region's slot ledger. Any number of routers may use the same one; no act needs `open` to have been called.

    A call that is cancelled, or that raises `LedgerUnavailable`, may have been executed all the same.
    """

    clock_source: ClassVar[str] = source("clock")
    """Lua that defines `server_time_us()`."""

    def __init__(self, url: str, region: str, timings: LedgerTimings | None = None) -> None:
        """`url`: redis://, rediss:// or unix://. Does not connect. Raises ValueError for a region name that holds braces."""
        timings = timings or LedgerTimings()
        self._durations = (timings.lease_us, timings.reservation_us, timings.rebuild_us, timings.request_us)
        self._epoch_seen = 0
        self._fence_seen = 0
        self._scripts = Scripts(url, region, self.clock_source, timings.call_timeout_us)

    async def open(self) -> int:
        """Check the store's settings, start or join the epoch; return it."""
        policy = await self._scripts.setting("maxmemory-policy")
        limit = await self._scripts.setting("maxmemory")
        if policy not in (None, "noeviction") and limit != "0":
            raise LedgerMisconfigured(
                f"maxmemory-policy is {policy}: the store would drop reservations when memory runs out; "
                "run `CONFIG SET maxmemory-policy noeviction`, and put it into the store's configuration file"
            )
        await self._act("open")
        return self._epoch_seen

    async def close(self) -> None:
        """Drop the connections."""
        await self._scripts.close()

    async def register(self, registration: WorkerRegistration) -> Registered:
        """See `register.lua`."""
        variants = registration.variants
        models = frozenset(offer.model for offer in variants)
        superseded, registered = await self._act(
            "register",
            registration.worker,
            registration.incarnation,
            registration.address,
            registration.slots,
            group_name(variants),
            pool_name(models),
            json.dumps(sorted(models)),
            json.dumps([(offer.model, offer.variant, offer.digest) for offer in variants]),
            len(variants),
            *(offer.service_us for offer in variants),
            *registration.running,
        )
        holder = None if superseded is None else superseded.decode()
        return Registered(epoch=self._epoch_seen, superseded=holder, accepted=bool(registered))

    async def heartbeat(
        self, worker: str, incarnation: str, running: tuple[str, ...], service_us: dict[str, int]
    ) -> HeartbeatSeen:
        """See `heartbeat.lua`."""
        measured = [word for pair in service_us.items() for word in pair]
        known, superseded = await self._act("heartbeat", worker, incarnation, len(running), *running, *measured)
        return HeartbeatSeen(epoch=self._epoch_seen, known=bool(known), superseded=bool(superseded))

    async def drain(self, worker: str, incarnation: str) -> bool:
        """See `drain.lua`."""
        (known,) = await self._act("drain", worker, incarnation)
        return bool(known)

    async def detach(self, worker: str, incarnation: str, gone: bool) -> bool:
        """See `detach.lua`."""
        (known,) = await self._act("detach", worker, incarnation, int(gone))
        return bool(known)

    async def reserve(self, request: ReservationRequest) -> Reserved | Refused:
        """See `reserve.lua`."""
        variant = (0, "") if request.variant is None else (1, request.variant)
        kind, *answer = await self._act(
            "reserve",
            request.reservation_id,
            request.request_id,
            request.model,
            repr(float(request.keep_free_share)),
            *variant,
            *sorted(request.exclude_workers),
        )
        if kind != b"GRANTED":
            eta_us, slots, busy = answer
            return Refused(reason=Refusal[kind.decode()], eta_us=eta_us, slots=slots, busy=busy)
        *words, service_us, epoch, fence, slots, busy, expires_in_us = answer
        worker, incarnation, address, variant_id, digest = (word.decode() for word in words)
        self._fence_seen = max(self._fence_seen, fence)
        return Reserved(
            reservation_id=request.reservation_id,
            worker=worker,
            incarnation=incarnation,
            address=address,
            variant=variant_id,
            digest=digest,
            service_us=service_us,
            epoch=epoch,
            fence=fence,
            slots=slots,
            busy=busy,
            expires_in_us=expires_in_us,
        )

    async def release(self, reservation_id: str) -> bool:
        """See `release.lua`."""
        (released,) = await self._act("release", reservation_id)
        return bool(released)

    async def sweep(self, limit: int) -> int:
        """See `sweep.lua`. Of the store's time, about 10 µs for each reservation and 1 ms for a worker of 1,024 slots."""
        (count,) = await self._act("sweep", limit)
        return int(count)

    async def pools(self) -> tuple[PoolStatus, ...]:
        """See `pools.lua`. `service_us` is the mean over the pool's live workers of the mean over each one's variants."""
        return _pools(await self._act("pools"))

    async def workers(self) -> tuple[WorkerStatus, ...]:
        """See `describe.lua`. Read in pages: each is consistent in itself. `service_us` is the mean over the variants."""
        names = sorted(await self._act("workers"))
        rows: Reply = []
        for start in range(0, len(names), DESCRIBED_AT_ONCE):
            rows += await self._act("describe", *names[start : start + DESCRIBED_AT_ONCE])
        return tuple(_worker(row) for row in rows)

    async def claim_request(
        self, request_id: str, digest: str, running_us: int, fresh_share: float, floor_per_s: float
    ) -> RequestClaim:
        """See `claim_request.lua`, and `budget.lua` for the deposit."""
        deposit = _milli(fresh_share)
        (claim,) = await self._act("claim_request", request_id, digest, running_us, deposit, *_budget(floor_per_s))
        return RequestClaim[claim.decode()]

    async def settle_request(self, request_id: str, digest: str, *, succeeded: bool) -> None:
        """See `settle_request.lua`."""
        await self._act("settle_request", request_id, digest, int(succeeded))

    async def withdraw_retry(self, floor_per_s: float) -> bool:
        """See `budget.lua`. Deposits come with `claim_request`."""
        (taken,) = await self._act("withdraw_retry", *_budget(floor_per_s))
        return bool(taken)

    async def grant_secret(self, proposed: bytes) -> bytes:
        """See `grant_secret.lua`."""
        (secret,) = await self._act("grant_secret", proposed)
        return bytes(secret)

    async def _act(self, act: str, *arguments: Argument) -> Reply:
        epoch, fence, *answer = await self._scripts.run(
            act, *self._durations, self._epoch_seen, self._fence_seen, *arguments
        )
        # Replies may overtake one another between connections.
        self._epoch_seen = max(self._epoch_seen, epoch)
        self._fence_seen = max(self._fence_seen, fence)
        return answer


def _milli(tokens: float) -> int:
    return round(tokens * 1000)


def _budget(floor_per_s: float) -> tuple[int, int, int]:
    """Floor in milli-tokens a second, window in seconds, cap in milli-tokens."""
    return _milli(floor_per_s), RETRY_BUDGET_WINDOW_S, RETRY_BUDGET_TOKENS_MAX * 1000


def _pools(rows: Iterable[Reply]) -> tuple[PoolStatus, ...]:
    """Slot groups of one pool, added up; by name of the pool."""
    sums: dict[str, list[int]] = {}
    models: dict[str, tuple[str, ...]] = {}
    for pool, model_list, *counts in rows:
        name = pool.decode()
        models[name] = tuple(json.loads(model_list))
        sums[name] = [total + count for total, count in zip(sums.get(name, [0] * 4), counts, strict=True)]
    return tuple(
        PoolStatus(
            pool=name, models=models[name], slots=slots, busy=busy, workers=workers, service_us=service_sum_us // workers
        )
        for name, (slots, busy, workers, service_sum_us) in sorted(sums.items())
    )


def _worker(row: Reply) -> WorkerStatus:
    worker, incarnation, address, state, slots, service_us, lease_left_us, offers, services, reservations = row
    variants = tuple(
        VariantOffer(model=model, variant=variant, digest=digest, service_us=int(offer_us))
        for (model, variant, digest), offer_us in zip(json.loads(offers), services, strict=True)
    )
    return WorkerStatus(
        worker=worker.decode(),
        incarnation=incarnation.decode(),
        address=address.decode(),
        state=state.decode(),
        slots=slots,
        busy=len(reservations),
        variants=variants,
        service_us=service_us,
        lease_left_us=lease_left_us,
        reservations=tuple(sorted(id_.decode() for id_ in reservations)),
    )
