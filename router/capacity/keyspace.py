"""Every key of a region's ledger, and the rules for naming them.

Rules
-----
* Every key starts with `homeward:{region}:`. The braces are a Redis Cluster hash tag, so one region lives in one slot and one
  script may touch all of it. A region name therefore holds no brace.
* A script gets one key, the region's `meta`: it is what a cluster routes the call by. It knows the prefixes of all other names
  and completes them with the names in its arguments, in the same slot by construction. (Scripts without a shebang may do so
  in Redis Cluster; with a proxy that insists on declared keys they would not work.)
* A name that comes from outside (worker, model, reservation, request) stands last in its key and each kind of key has its
  own prefix, so that no name, however odd, can reach another key.
* Instants are microseconds of the ledger's clock (`act.lua`), durations microseconds, both as decimal digits.

`lua_names` gives the scripts the same names, so this file is the only place where they are written down.

Theory: what is free and what is busy
-------------------------------------
A **pool** is the slots that compete for the same jobs: those of all workers with the same set of models. Inside a pool, workers
with the same list of variants form a **slot group**, so that a claim for one variant never has to search workers that
lack it. Every slot of a ready worker is either a member of its group's `free` or has its reservation in the group's `busy`:
the group's slots are ZCARD(free) + ZCARD(busy), and there is no counter that could leak. The cost of a claim grows with the
number of groups that serve the model (variants being rolled out), not with the number of workers.
"""

import hashlib
import json
from enum import Enum

from router.capacity.ledger import VariantOffer


class Key(Enum):
    """Keys of a region. Those whose suffix ends in a colon are families, completed by a name."""

    META = "meta"
    """HASH: `epoch`, `fence` (the last one given), `seen_us` (highest instant seen), `behind_us` (how far the server's TIME ran
    backwards so far), `held_until_us` (no grant before), `rebuilt` (epoch that began with lost memory: workers registered
    in an older one register again), `secret`."""
    LEASES = "leases"
    """ZSET worker → end of its lease. Exactly the workers that have a `worker:` key."""
    EXPIRIES = "expiries"
    """ZSET reservation → expiry. Exactly the reservations that have a `reservation:` key."""
    RETIRED = "retired"
    """ZSET `<length of worker>:<worker><incarnation>` → when to forget that a newer incarnation took this one's name."""
    BUDGET = "budget"
    """HASH: retry budget, `second` (last one touched) and `0` … `9`, the net milli-tokens of a second modulo the window."""
    GROUPS = "groups"
    """SET of the slot groups that have a worker."""
    NOTHING = "nothing"
    """Never exists. Deleting it first makes a script's later writes pass when memory is used up; see `act.lua`."""
    MODEL = "model:"
    """SET, by model: slot groups that serve it."""
    GROUP = "group:"
    """HASH, by slot group: `pool`, `models` and `offers` (JSON), `service_us` (sum over its live workers), `variant:<n>` and
    `digest:<n>` (offer n, from 1), and the first offer for a claim: `m:<model>` and `v:<length of model>:<model><variant>`."""
    LIVE = "live:"
    """SET, by slot group: its workers with a lease, whatever their state."""
    READY = "ready:"
    """SET, by slot group: its workers that take jobs."""
    FREE = "free:"
    """ZSET, by slot group: `<slot, four digits>:<worker>` → since when the slot is free."""
    BUSY = "busy:"
    """ZSET, by slot group: reservation on a ready worker → when its job is expected to end."""
    WORKER = "worker:"
    """HASH, by worker: `incarnation`, `address`, `slots`, `state`, `group`, `epoch` (when it registered), `service_us` (mean over
    its offers), `service_us:<n>` (of offer n)."""
    HELD = "held:"
    """HASH, by worker: reservation → slot."""
    RESERVATION = "reservation:"
    """HASH, by reservation: `worker` (its incarnation is the worker's present one), `request`, `variant`, `digest`, `service_us`,
    `slot`, `epoch`, `fence`, `ends_us` (expected)."""
    REQUEST = "request:"
    """HASH, by request: `digest`, `state` (a `RequestClaim`, or `failed`), `until_us`. Its TTL only collects garbage."""


def region_prefix(region: str) -> str:
    """What every key of the region starts with. Raises ValueError for a name that would break the hash tag."""
    if not region or "{" in region or "}" in region:
        raise ValueError(f"region name {region!r} must not be empty or hold braces: it is a Redis Cluster hash tag")
    return f"homeward:{{{region}}}:"


def meta_key(region: str) -> str:
    """The key that every script is given."""
    return region_prefix(region) + Key.META.value


def lua_names(region: str) -> str:
    """Lua that defines a local for every key of the region: a whole name, or the prefix of a family.

    Literals, so that no act has to join strings for it (3 µs); every region has scripts of its own in the server.
    """
    prefix = region_prefix(region)
    return "".join(f"local {key.name} = {_lua_string(prefix + key.value)}\n" for key in Key)


def _lua_string(text: str) -> str:
    plain = {byte for byte in range(128) if chr(byte).isalnum()} | set(b"-_:{}")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03d}" for byte in text.encode()) + '"'


def pool_name(models: frozenset[str]) -> str:
    """Models, sorted, joined with `+` (which is escaped inside a model's name, as is the escape sign)."""
    return "+".join(model.replace("%", "%25").replace("+", "%2B") for model in sorted(models))


def group_name(variants: tuple[VariantOffer, ...]) -> str:
    """Slot group of the workers with this list of variants: 32 hexadecimal digits. Service times do not count."""
    offers = [(offer.model, offer.variant, offer.digest) for offer in variants]
    return hashlib.sha256(json.dumps(offers).encode()).hexdigest()[:32]
