"""The layout of a ring's memory, the words its sides publish in it, and the meaning of each.

A ring is one memfd. Every word has one writer; control may read all of them at any time.

====================  =======  ======  =========================================================
offset                size     type    field
====================  =======  ======  =========================================================
0                     8        u64     MAGIC
8                     8        u64     slot size in bytes
16                    8        u64     number of slots
24                    8        u64     offset of slot 0
32                    8        u64     verdict: see :class:`Verdict`; written by control only
256                   256      u64[]   producer's words: see :class:`ProducerWord`
512                   256      u64[]   consumer's words: see :class:`ConsumerWord`
1536                  512      bytes   producer's note: u16 length, then the path being read
2048                  512      bytes   consumer's note
2560                  768      u64[]   producer's gauges (:class:`DataGauge`, :class:`TapeGauge`, ...)
3328                  768      u64[]   consumer's gauges
4096                  16 each  u32[4]  queue: slot, length, kind, 0; one entry a slot
after the queue       4 each   u32     free queue: numbers of the slots given back
page aligned          -        bytes   slots
====================  =======  ======  =========================================================
"""

from enum import IntEnum
from typing import Final

MAGIC: Final = 0x31474E5252564F4D  # "MOVRRNG1" as it lies in memory on a little-endian machine
PAGE: Final = 4096
QUEUE_OFFSET: Final = PAGE
QUEUE_ENTRY_BYTES: Final = 16
NOTE_BYTES: Final = 512
PRODUCER_NOTE: Final = 1536
CONSUMER_NOTE: Final = 2048

# Bounds that an attaching side checks before it believes a header (a ring comes from control, but a
# wrong length must end in an error and not in a stray read).
SLOTS_MAX: Final = 65_536
SLOT_BYTES_MAX: Final = 1 << 30

# Word indexes (in units of 8 bytes) into the header page.
W_MAGIC: Final = 0
W_SLOT_BYTES: Final = 1
W_SLOTS: Final = 2
W_DATA_OFFSET: Final = 3
W_VERDICT: Final = 4
W_PRODUCER: Final = 32
W_CONSUMER: Final = 64
W_PRODUCER_GAUGES: Final = 320
W_CONSUMER_GAUGES: Final = 416
GAUGES: Final = 96


class Verdict(IntEnum):
    """What control has said of the ring; both sides stop when it is not OPEN."""

    OPEN = 0
    CLOSED = 1  # the other side ended in good order: what is in flight is not wanted any more
    BROKEN = 2  # the other side failed, died or was aborted: never a good end


class Kind(IntEnum):
    """What a queue entry carries; order with the bytes is the point of having it in band."""

    DATA = 0
    END = 1  # the stream ends here and is whole
    FAILED = 2  # the producer could not go on: the stream is not whole
    # Values from 0x100 up are NDMP message numbers: a history ring's entry is one encoded FH body.


class ProducerWord(IntEnum):
    """Words of the producing side, relative to W_PRODUCER."""

    APPENDED = 0  # entries appended to the queue
    FREE_TAKEN = 1  # slots taken from the free queue
    BYTES = 2  # bytes committed
    TIMES_FULL = 3  # how often a reserve had to wait
    WAITED_FULL_NS = 4  # nanoseconds spent so
    WAITING_SINCE_NS = 5  # CLOCK_MONOTONIC of the wait under way, 0 = none


class ConsumerWord(IntEnum):
    """Words of the consuming side, relative to W_CONSUMER."""

    TAKEN = 0  # entries peeked
    RELEASED = 1  # entries given back
    BYTES = 2  # bytes released
    TIMES_EMPTY = 3
    WAITED_EMPTY_NS = 4
    WAITING_SINCE_NS = 5
    CURSOR = 6  # bytes already used of the oldest entry that is not released
    CLOSED = 7  # 1 = the consumer has all it wants


class DataGauge(IntEnum):
    """What a data worker publishes in the gauges of its side of the data ring."""

    PHASE = 0  # DataPhase
    DIRECTORIES = 1
    FILES = 2  # every entry that is not a directory
    ERRORS = 3
    FILE_BYTES = 4  # bytes of file content read or written
    STREAM_BYTES = 5  # stream bytes made or taken: DATA_GET_STATE bytes_processed
    TOTAL_ENTRIES = 6  # entries found by the scan, 0 before
    TOTAL_BYTES = 7  # estimated stream bytes, 0 = not known
    HISTORY_ENTRIES = 8
    HISTORY_WAIT_NS = 9
    SCAN_NS = 10  # time spent scanning
    LOOKED_AT = 11  # entries of the scan that were looked at for changes
    PHASE_SINCE_NS = 12  # CLOCK_MONOTONIC of the beginning of the phase under way, 0 = none
    PHASE_NS = 13  # the first of 6: time spent in each DataPhase, but for the one under way
    KINDS = 19  # the first of 13: entries by DT_ number (bits 12 to 15 of a mode); 0 = further names
    SIZES = 32  # the first of 64: regular files of less than 2^n bytes, and not of less than half of that


class DataPhase(IntEnum):
    """Where a data operation is."""

    IDLE = 0
    SCAN = 1
    DIRECTORIES = 2
    FILES = 3
    FINISH = 4
    CHANGES = 5  # between SCAN and DIRECTORIES, of an incremental backup: which entries have changed


class TapeGauge(IntEnum):
    """What a tape worker publishes in the gauges of its side of the data ring."""

    RECORDS = 0  # MOVER record_num
    BYTES_MOVED = 1  # MOVER bytes_moved: stream bytes, pad excluded
    BYTES_LEFT = 2  # MOVER bytes_left_to_read
    SEEK_POSITION = 3  # MOVER seek_position
    IO_NS = 4  # nanoseconds in drive calls
    DRIVE_BYTES = 5  # bytes of records written to or read from the drive, pad included
    FILE_NUM = 6
    BLOCKNO = 7
    UNDERRUNS = 8  # how often the drive was made to stand: nothing to write, or no room for what is read
    IO_SINCE_NS = 9  # CLOCK_MONOTONIC of the drive call under way, 0 = none


class RelayGauge(IntEnum):
    """What a relay publishes in the gauges of its side."""

    SOCKET_BYTES = 0
    SOCKET_WAIT_NS = 1  # nanoseconds waited for room in the socket, or for bytes
    PEER_FULL_NS = 2  # of a sender: those of them in which the network had delivered what the peer would take
    CLOSING_NS = 3  # of a sender: those of them that came behind the stream's end, until the peer had closed
    SOCKET_SINCE_NS = 4  # CLOCK_MONOTONIC of the wait under way, 0 = none
