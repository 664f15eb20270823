"""Every metric of the router, by name. Labels are bounded: regions, models, enumerations; never a request or a tenant.

Each `Metrics` has a registry of its own, so that tests can hold several routers in one process. The children of the
hottest ones are kept here: a `labels()` call costs about a microsecond.
"""

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.policy.vocabulary import Outcome, Reason, Refusal

# From a local slot's milliseconds to a long generation: about doubling.
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


class Metrics:
    """The router's metrics in one registry."""

    def __init__(self, region: str) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        Gauge("homeward_router_info", "Always 1; the label says which region.", ["region"], registry=registry).labels(
            region
        ).set(1)
        self._requests = Counter(
            "homeward_requests_total", "Requests ended, by model and outcome.", ["model", "outcome"], registry=registry
        )
        self._placements = Counter(
            "homeward_placements_total", "Slots granted, by serving region and its ring.", ["region", "ring"], registry=registry
        )
        self._refusals = Counter(
            "homeward_refusals_total", "Slots refused, by region asked and reason.", ["region", "refusal"], registry=registry
        )
        self._decisions = Counter(
            "homeward_decisions_total", "Policy decisions, by reason.", ["reason"], registry=registry
        )
        self._peer_reservations = Counter(
            "homeward_peer_reservations_total", "Slots that other regions asked of this one.", ["region", "answer"],
            registry=registry,
        )  # fmt: skip
        self._worker_failures = Counter(
            "homeward_worker_failures_total", "Dispatched runs that failed, by kind.", ["failure"], registry=registry
        )
        self.total_seconds = Histogram(
            "homeward_request_seconds", "From arrival to the end of the request.", buckets=SECONDS_BUCKETS, registry=registry
        )
        self.wait_seconds = Histogram(
            "homeward_wait_seconds", "Waiting for a slot: placement and backoff.", buckets=SECONDS_BUCKETS, registry=registry
        )
        self.start_delay_seconds = Histogram(
            "homeward_start_delay_seconds", "Marginal execution delay of delayed jobs.", buckets=SECONDS_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.run_seconds = Histogram(
            "homeward_run_seconds", "Time on the slot, as workers measured it.", buckets=SECONDS_BUCKETS, registry=registry
        )
        self.running = Gauge("homeward_requests_running", "Requests in this router now.", registry=registry)
        self.waiting = Gauge("homeward_requests_waiting", "Requests waiting for a slot (bound: waiting_max).", registry=registry)
        self.slots = Gauge("homeward_slots", "Slots of live workers, by pool.", ["pool"], registry=registry)
        self.busy = Gauge("homeward_slots_busy", "Slots with a live reservation, by pool.", ["pool"], registry=registry)
        self.offered = Gauge("homeward_slots_offered", "Slots offered to other regions, by pool.", ["pool"], registry=registry)
        self.attached_workers = Gauge("homeward_workers_attached", "Workers attached to this router.", registry=registry)
        self.ledger_up = Gauge("homeward_ledger_up", "1 while the slot ledger answers.", registry=registry)
        self.ledger_epoch = Gauge("homeward_ledger_epoch", "Epoch of the slot ledger.", registry=registry)
        self._ledger_seconds = Histogram(
            "homeward_ledger_seconds", "Time of one act on the slot ledger.", ["act"],
            buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5), registry=registry,
        )  # fmt: skip
        self.swept = Counter("homeward_ledger_swept_total", "Leases and reservations that expired.", registry=registry)
        self.snapshot_age_seconds = Gauge(
            "homeward_peer_snapshot_age_seconds", "Age of a region's last snapshot; -1: none.", ["region"], registry=registry
        )
        self.bad_snapshots = Counter(
            "homeward_peer_snapshots_refused_total", "Snapshots with impossible numbers.", ["region"], registry=registry
        )
        self.peer_asks_dropped = Counter(
            "homeward_peer_asks_dropped_total", "Asks of other regions not made: too many were being paced.", registry=registry
        )
        self.background_failures = Counter(
            "homeward_background_failures_total", "Background work that broke and was started again.", registry=registry
        )
        self.explained = Gauge("homeward_explained_requests", "Requests whose decisions are kept for explain.", registry=registry)
        self.request = cache(self._request)
        self.ledger_seconds = cache(self._ledger_seconds.labels)

    def _request(self, model: str, outcome: Outcome) -> Counter:
        return self._requests.labels(model, outcome.name)

    def placed(self, region: str, ring: int) -> None:
        """A region granted a slot."""
        self._placements.labels(region, str(ring)).inc()

    def refused(self, region: str, refusal: Refusal) -> None:
        """A region refused a slot."""
        self._refusals.labels(region, refusal.name).inc()

    def decided(self, reason: Reason) -> None:
        """The policy took a decision."""
        self._decisions.labels(reason.name).inc()

    def forget_pools(self, pools: Iterable[str]) -> None:
        """These pools have no live worker any more: without a value, not with the last one for ever."""
        for pool in pools:
            for gauge in (self.slots, self.busy, self.offered):
                gauge.remove(pool)

    def asked_by_peer(self, region: str, answer: str) -> None:
        """Another region asked this one for a slot."""
        self._peer_reservations.labels(region, answer).inc()

    def worker_failed(self, failure: str) -> None:
        """A dispatched run failed."""
        self._worker_failures.labels(failure).inc()
