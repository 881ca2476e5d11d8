"""Version 1: one operation that reads or writes the drive open on the same connection; no MOVER, no data connection.

Inside it is the LOCAL case of the later versions: a data worker and a tape worker on one ring, and a mover that no
message reaches and that control drives by itself. Source: NDMPv1 (draft of October 1996) sections 2.1 and 2.3.
"""

from mover.control.version_1.data import TapeDataService
from mover.control.version_1.mover import OwnMover
from mover.control.version_1.tape import RecordTapeService

__all__ = ["OwnMover", "RecordTapeService", "TapeDataService"]
