"""Watermarks of a ring: a mover lets its drive stand until it can stream for a while, instead of stopping at each gap.

A drive that runs out of data stops, goes back and starts again, which takes seconds and wears the tape. So once a gap
has come it waits for the high mark, and goes on until no more than the low mark is left; where the tape is read, room
in the ring takes the place of data. The end of the stream ends the wait, and so does time, so that a stream that never
comes to the mark passes.

Source: docs/architecture.md section 4, Watermarks.
"""

from typing import Final

from mover.ring import Consumer, Producer

PATIENCE_S: Final = 5.0
"""How long a drive stands for the high mark, from the first byte on that it could go on with."""


class Watermarks:
    """Both marks of one mover, and how often it let its drive stand.

    Args:
        slots: of the ring.
        start_percent: of the ring, from which on the drive goes on; 0 = as soon as it can.
        stop_percent: of the ring, at which it stops.
        underruns: of the runs before.

    Attributes:
        start, stop: the same in slots; ``stop`` is below ``start``.
        underruns: how often the drive had moved and was made to stand.
    """

    def __init__(self, slots: int, start_percent: int, stop_percent: int, *, underruns: int = 0) -> None:
        self.start = min(slots, max(1, -(-slots * start_percent // 100)))
        self.stop = min(self.start - 1, slots * stop_percent // 100)
        self.underruns = underruns
        self._moves = False

    def gather(self, ring: Consumer) -> None:
        """Before an entry is peeked and written to tape. Raises RingClosed."""
        if self._moves and ring.ahead > self.stop:
            return
        self._stand(ring.gather(self.start, PATIENCE_S))

    def make_room(self, ring: Producer, slots: int) -> None:
        """Before a slot is reserved that is read from tape; ``slots``: how many all that is wanted fills.

        Raises:
            RingClosed: nobody will read it.
        """
        if self._moves and ring.room > self.stop:
            return
        # One slot may hold the beginning of something whose rest the other side waits for.
        most = max(1, min(ring.slots - 1, slots))
        self._stand(ring.wait_for_room(min(self.start, most), PATIENCE_S))

    def _stand(self, waited: bool) -> None:
        self.underruns += waited and self._moves
        self._moves = True
