"""A slot ledger in plain Python: slow, obvious, for one process. The oracle that the real one is compared with.

It keeps workers and reservations in dictionaries and computes every count when asked. Its clock is an argument.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from router.capacity.ledger import (
    HeartbeatSeen,
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
from router.policy.parameters import RETRY_BUDGET_TOKENS_MAX, RETRY_BUDGET_WINDOW_S
from router.policy.vocabulary import Refusal

OVERDUE_ETA_US = 50_000
RETIRED_LEASES = 150


@dataclass
class Held:
    """A reservation."""

    id: str
    slot: int
    offer: VariantOffer
    epoch: int
    fence: int
    ends_us: int
    expires_us: int


@dataclass
class Worker:
    """A worker with a lease."""

    registration: WorkerRegistration
    variants: list[VariantOffer]
    lease_ends_us: int
    state: str = "ready"
    held: dict[str, Held] = field(default_factory=dict)
    free_since_us: dict[int, int] = field(default_factory=dict)

    @property
    def models(self) -> frozenset[str]:
        return frozenset(offer.model for offer in self.variants)

    def offer(self, model: str, variant: str | None) -> VariantOffer | None:
        for offer in self.variants:
            if offer.model == model and variant in (None, offer.variant):
                return offer
        return None

    @property
    def service_us(self) -> int:
        return sum(offer.service_us for offer in self.variants) // max(1, len(self.variants))


@dataclass
class Request:
    digest: str
    state: RequestClaim | None
    """None: failed."""
    until_us: int


class PlainLedger(SlotLedger):
    """See the module."""

    def __init__(self, timings: LedgerTimings, clock_us: Callable[[], int]) -> None:
        self.timings = timings
        self.clock_us = clock_us
        self.epoch = 0
        self.fence = 0
        self.wipe()

    def wipe(self) -> None:
        """Lose all memory, as an emptied store does. (Epoch and fence stay: routers remember the highest.)"""
        self.empty = True
        self.seen_us = 0
        self.behind_us = 0
        self.held_until_us = 0
        self.live: dict[str, Worker] = {}
        self.retired: dict[tuple[str, str], int] = {}
        self.ended: dict[tuple[str, str], int] = {}
        self.requests: dict[str, Request] = {}
        self.credit: list[tuple[int, int]] = []
        self.secret: bytes | None = None

    def _begin(self, expire: bool = True) -> int:
        raw = self.clock_us()
        if self.empty:
            self.empty = False
            self.epoch = max(raw // 1_000, self.epoch + 1)
            self.fence = max(raw, self.fence)
            self.held_until_us = raw + self.timings.rebuild_us
        elif raw + self.behind_us < self.seen_us:
            self.behind_us = self.seen_us - raw
            self.epoch += 1
        self.seen_us = raw + self.behind_us
        if expire:
            self._expire(10**9)
        return self.seen_us

    def _expire(self, limit: int) -> int:
        now = self.seen_us
        dead = sorted((w.lease_ends_us, name) for name, w in self.live.items() if w.lease_ends_us <= now)[:limit]
        for _, name in dead:
            self._retire_ended(name)
        due = [(held.expires_us, id_) for id_, (_, held) in self._reservations().items() if held.expires_us <= now]
        due = sorted(due)[: limit - len(dead)]
        for _, id_ in due:
            self._drop(id_)
        return len(dead) + len(due)

    def _retire_ended(self, name: str) -> None:
        incarnation = self.live.pop(name).registration.incarnation
        self.ended[name, incarnation] = self.seen_us + RETIRED_LEASES * self.timings.lease_us

    def _reservations(self) -> dict[str, tuple[str, Held]]:
        return {id_: (name, held) for name, worker in self.live.items() for id_, held in worker.held.items()}

    def _drop(self, id_: str) -> bool:
        found = self._reservations().get(id_)
        if found is None:
            return False
        worker = self.live[found[0]]
        del worker.held[id_]
        worker.free_since_us[found[1].slot] = self.seen_us
        return True

    def _find(self, worker: str, incarnation: str) -> Worker | None:
        found = self.live.get(worker)
        return found if found and found.registration.incarnation == incarnation else None

    def _ready(self) -> list[Worker]:
        return [worker for worker in self.live.values() if worker.state == "ready"]

    @staticmethod
    def _count(workers: Iterable[Worker]) -> tuple[int, int]:
        workers = list(workers)
        return sum(w.registration.slots for w in workers), sum(len(w.held) for w in workers)

    async def open(self) -> int:
        self._begin(expire=False)
        return self.epoch

    async def close(self) -> None:
        pass

    async def register(self, registration: WorkerRegistration) -> Registered:
        now = self._begin()
        mine = (registration.worker, registration.incarnation)
        holder = self.live.get(registration.worker)
        other = holder and holder.registration.incarnation != registration.incarnation
        if holder and other and max(self.retired.get(mine, 0), self.ended.get(mine, 0)) > now:
            return Registered(self.epoch, holder.registration.incarnation, accepted=False)
        former = self.live.pop(registration.worker, None)
        held_before = former.held if former else {}
        elsewhere = self._reservations()
        worker = Worker(registration, list(registration.variants), now + self.timings.lease_us)
        ids = [id_ for id_ in dict.fromkeys(registration.running) if id_ not in elsewhere]
        if former and former.registration.incarnation == registration.incarnation:
            waiting = sorted((held for held in held_before.values() if held.id not in ids), key=lambda held: held.fence)
            ids += [held.id for held in waiting]
        for slot, id_ in enumerate(ids[: registration.slots]):
            held = held_before.get(id_) or self._adopted(id_, worker)
            held.slot = slot
            if id_ in registration.running:
                held.expires_us = now + self.timings.reservation_us
            worker.held[id_] = held
        worker.free_since_us = dict.fromkeys(range(len(worker.held), registration.slots), now)
        self.live[registration.worker] = worker
        self.retired.pop((registration.worker, registration.incarnation), None)
        self.ended.pop((registration.worker, registration.incarnation), None)
        if former and former.registration.incarnation != registration.incarnation:
            old = former.registration.incarnation
            self.retired[registration.worker, old] = now + RETIRED_LEASES * self.timings.lease_us
            return Registered(self.epoch, old)
        return Registered(self.epoch, None)

    def _adopted(self, id_: str, worker: Worker) -> Held:
        self.fence += 1
        offer = worker.variants[0] if worker.variants else VariantOffer("", "", "", 0)
        return Held(id_, 0, offer, self.epoch, self.fence, self.seen_us + offer.service_us, 0)

    async def heartbeat(
        self, worker: str, incarnation: str, running: tuple[str, ...], service_us: dict[str, int]
    ) -> HeartbeatSeen:
        now = self._begin()
        found = self._find(worker, incarnation)
        if found is None:
            superseded = worker in self.live or self.retired.get((worker, incarnation), 0) > now
            return HeartbeatSeen(self.epoch, known=False, superseded=superseded)
        if found.state == "detached":
            return HeartbeatSeen(self.epoch, known=False, superseded=False)
        found.lease_ends_us = now + self.timings.lease_us
        for id_ in running:
            if id_ in found.held:
                found.held[id_].expires_us = now + self.timings.reservation_us
        found.variants = [
            replace(offer, service_us=service_us.get(offer.variant, offer.service_us)) for offer in found.variants
        ]
        return HeartbeatSeen(self.epoch, known=True, superseded=False)

    async def drain(self, worker: str, incarnation: str) -> bool:
        self._begin()
        found = self._find(worker, incarnation)
        if found and found.state == "ready":
            found.state = "draining"
        return found is not None

    async def detach(self, worker: str, incarnation: str, gone: bool) -> bool:
        self._begin()
        found = self._find(worker, incarnation)
        if found is None:
            return False
        found.state = "detached"
        if gone and not found.held:
            self._retire_ended(worker)
        return True

    async def reserve(self, request: ReservationRequest) -> Reserved | Refused:
        now = self._begin()
        existing = self._reservations().get(request.reservation_id)
        if existing:
            return self._granted(*existing)
        serving = [worker for worker in self._ready() if request.model in worker.models]
        slots, busy = self._count(serving)
        if now < self.held_until_us:
            return Refused(Refusal.REBUILDING, self.held_until_us - now, slots, busy)
        able = [worker for worker in serving if worker.offer(request.model, request.variant)]
        eligible = [worker for worker in able if worker.registration.worker not in request.exclude_workers]
        if not able:
            return Refused(Refusal.NO_WORKER, 0, slots, busy)
        best: tuple[int, bytes, Worker, int] | None = None
        reason = Refusal.FULL
        for worker in eligible:
            pool_slots, pool_busy = self._count(w for w in self._ready() if w.models == worker.models)
            offered = pool_slots - pool_busy - 1 >= int(pool_slots * request.keep_free_share + 0.5)
            for slot, since_us in worker.free_since_us.items():
                tie = f"{slot:04d}:{worker.registration.worker}".encode()
                if not offered:
                    reason = Refusal.NOT_OFFERED
                elif best is None or (since_us, tie) < best[:2]:
                    best = (since_us, tie, worker, slot)
        if best is None:
            ends = [held.ends_us for worker in able for held in worker.held.values()]
            eta_us = (min(ends) - now if min(ends) > now else OVERDUE_ETA_US) if ends else 0
            return Refused(reason, eta_us, slots, busy)
        _, _, worker, slot = best
        offer = worker.offer(request.model, request.variant)
        assert offer is not None
        self.fence += 1
        held = Held(
            request.reservation_id,
            slot,
            offer,
            self.epoch,
            self.fence,
            now + offer.service_us,
            now + self.timings.reservation_us,
        )
        del worker.free_since_us[slot]
        worker.held[held.id] = held
        return self._granted(worker.registration.worker, held)

    def _granted(self, name: str, held: Held) -> Reserved:
        worker = self.live[name]
        slots, busy = self._count(w for w in self._ready() if w.models == worker.models)
        return Reserved(
            held.id,
            name,
            worker.registration.incarnation,
            worker.registration.address,
            held.offer.variant,
            held.offer.digest,
            held.offer.service_us,
            held.epoch,
            held.fence,
            slots,
            busy,
            held.expires_us - self.seen_us,
        )

    async def release(self, reservation_id: str) -> bool:
        self._begin()
        return self._drop(reservation_id)

    async def sweep(self, limit: int) -> int:
        self._begin(expire=False)
        return self._expire(limit)

    async def pools(self) -> tuple[PoolStatus, ...]:
        self._begin()
        rows = []
        for models in {worker.models for worker in self.live.values()}:
            members = [worker for worker in self.live.values() if worker.models == models]
            slots, busy = self._count(worker for worker in members if worker.state == "ready")
            name = "+".join(model.replace("%", "%25").replace("+", "%2B") for model in sorted(models))
            service_us = sum(worker.service_us for worker in members) // len(members)
            rows.append(PoolStatus(name, tuple(sorted(models)), slots, busy, len(members), service_us))
        return tuple(sorted(rows, key=lambda row: row.pool))

    async def workers(self) -> tuple[WorkerStatus, ...]:
        now = self._begin()
        return tuple(
            WorkerStatus(
                name,
                worker.registration.incarnation,
                worker.registration.address,
                worker.state,
                worker.registration.slots,
                len(worker.held),
                tuple(worker.variants),
                worker.service_us,
                worker.lease_ends_us - now,
                tuple(sorted(worker.held)),
            )
            for name, worker in sorted(self.live.items())
        )

    async def claim_request(
        self, request_id: str, digest: str, running_us: int, fresh_share: float, floor_per_s: float
    ) -> RequestClaim:
        now = self._begin(expire=False)
        known = self.requests.get(request_id)
        if known and known.until_us <= now:
            known = None
        if known and known.digest != digest:
            return RequestClaim.OTHER_CONTENT
        if known and known.state is RequestClaim.RUNNING:
            return known.state
        if known and known.state is not None:
            known.until_us = now + self.timings.request_us
            return known.state
        self.requests[request_id] = Request(digest, RequestClaim.RUNNING, now + running_us)
        self._change_credit(round(fresh_share * 1000), floor_per_s)
        return RequestClaim.FRESH

    async def settle_request(self, request_id: str, digest: str, *, succeeded: bool) -> None:
        now = self._begin(expire=False)
        known = self.requests.get(request_id)
        if known and known.until_us <= now:
            known = None
        if known and (known.digest != digest or known.state is RequestClaim.SUCCEEDED):
            return
        if known or succeeded:
            state = RequestClaim.SUCCEEDED if succeeded else None
            self.requests[request_id] = Request(digest, state, now + self.timings.request_us)

    async def withdraw_retry(self, floor_per_s: float) -> bool:
        self._begin(expire=False)
        return self._change_credit(-1000, floor_per_s)

    def _change_credit(self, milli: int, floor_per_s: float) -> bool:
        second = self.seen_us // 1_000_000
        most = RETRY_BUDGET_TOKENS_MAX * 1000
        self.credit = [(at, amount) for at, amount in self.credit if at > second - RETRY_BUDGET_WINDOW_S]
        reserve = min(most, round(floor_per_s * 1000) * RETRY_BUDGET_WINDOW_S)
        balance = reserve + sum(amount for _, amount in self.credit)
        if balance > most:
            self.credit.append((second, most - balance))
            balance = most
        if balance + milli < 0 and milli < 0:
            return False
        self.credit.append((second, min(milli, most - balance)))
        return True

    async def grant_secret(self, proposed: bytes) -> bytes:
        self._begin(expire=False)
        self.secret = self.secret or proposed
        return self.secret
