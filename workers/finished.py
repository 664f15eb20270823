"""Which ended jobs the router still has to hear of.

`JobFinished` messages written to a stream that breaks may be lost, and then the slot stays busy in the ledger until its
reservation expires. So an ended reservation is kept until a heartbeat that was sent after it has been answered (a stream keeps
its order), and everything unconfirmed is said again on the next stream: the ledger frees a reservation at most once.
"""

FINISHED_MAX = 4_096
"""Four times the most slots a worker can have. Beyond it the oldest is forgotten and expires in the ledger by itself."""


class FinishedJobs:
    """Ended reservations on their way to the router."""

    def __init__(self) -> None:
        """Start with none."""
        self._unsent: dict[str, None] = {}
        self._unconfirmed: dict[str, int] = {}
        self._heartbeats_sent = 0
        self._heartbeats_answered = 0

    def add(self, reservation_id: str) -> None:
        """Note an ended job."""
        if len(self._unsent) >= FINISHED_MAX:
            del self._unsent[next(iter(self._unsent))]
        self._unsent[reservation_id] = None

    def stream_began(self) -> None:
        """Nothing said on the previous stream counts, unless it was confirmed."""
        self._unsent = dict.fromkeys([*self._unconfirmed, *self._unsent][-FINISHED_MAX:])
        self._unconfirmed.clear()
        self._heartbeats_sent = self._heartbeats_answered = 0

    def take(self) -> str | None:
        """Return the next reservation to send, or None; it stays known until confirmed."""
        if not self._unsent:
            return None
        reservation_id = next(iter(self._unsent))
        del self._unsent[reservation_id]
        if len(self._unconfirmed) >= FINISHED_MAX:
            del self._unconfirmed[next(iter(self._unconfirmed))]
        self._unconfirmed[reservation_id] = self._heartbeats_sent + 1
        return reservation_id

    def heartbeat_sent(self) -> None:
        """Count a heartbeat of this stream."""
        self._heartbeats_sent += 1

    def heartbeat_answered(self) -> None:
        """Count an answer; forget what was said before the heartbeat that it answers."""
        self._heartbeats_answered += 1
        confirmed = [each for each, after in self._unconfirmed.items() if after <= self._heartbeats_answered]
        for reservation_id in confirmed:
            del self._unconfirmed[reservation_id]
