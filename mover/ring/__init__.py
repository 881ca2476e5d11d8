"""The shared-memory ring between two processes, and the counters that its sides publish.

The door of this room: a producer ``reserve``s and ``commit``s, a consumer ``peek``s and ``release``s, control
creates rings (:class:`RingControl`), reads their counters and ends them. See :mod:`mover.ring.ring`.
"""

from mover.ring.control import RingControl, RingStatistics
from mover.ring.layout import DataGauge, DataPhase, Kind, RelayGauge, TapeGauge, Verdict
from mover.ring.mapping import RingFds
from mover.ring.ring import Consumer, Entry, Producer, RingClosed

__all__ = [
    "Consumer",
    "DataGauge",
    "DataPhase",
    "Entry",
    "Kind",
    "Producer",
    "RelayGauge",
    "RingClosed",
    "RingControl",
    "RingFds",
    "RingStatistics",
    "TapeGauge",
    "Verdict",
]
