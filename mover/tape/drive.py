"""What a drive is to the rest of the tape worker: motions and transfers with exact results.

Filemark, early warning, end of data and end of medium are results: a backup meets them on a good day. What went wrong
is a result too, with the NDMP error code that says it; nothing a drive does raises on account of the tape.

Source: NDMPv4 tape model; states.md section 5.
"""

from enum import Enum
from typing import Literal, NamedTuple, Protocol

from mover.tape.codes import Error, TapeFlag

Unit = Literal["object", "file", "end"]


class DriveError(Exception):
    """A drive cannot be opened; one line says why.

    Attributes:
        error: the NDMP error code that says so.
    """

    def __init__(self, error: Error, text: str) -> None:
        super().__init__(text)
        self.error = error


class Condition(Enum):
    """What ended a transfer or a motion."""

    NONE = "none"
    FILEMARK = "filemark"
    END_OF_DATA = "end of data"
    BEGINNING = "beginning of tape"
    EARLY_WARNING = "early warning"  # nothing was written; further writes succeed until the end of medium
    FAILED = "failed"  # see error and text


class Outcome(NamedTuple):
    """What became of a transfer or a motion.

    Attributes:
        done: records or filemarks done; of a single read the bytes read.
        condition: what ended it before it was complete.
        error: NDMP error code when FAILED, else NO_ERR.
        text: one line for the log when FAILED.
        record_length: of a single read, the whole length of the record on tape.
    """

    done: int
    condition: Condition = Condition.NONE
    error: Error = Error.NO_ERR
    text: str = ""
    record_length: int = 0


class Position(NamedTuple):
    """Filemarks between BOT and here, records since the last mark; None = not known."""

    file_num: int | None
    blockno: int | None


class State(NamedTuple):
    """What TAPE_GET_STATE tells; sizes in bytes, None = not known."""

    flags: TapeFlag
    position: Position
    block_size: int
    soft_errors: int
    total_space: int | None
    space_remain: int | None


class Drive(Protocol):
    """An open drive. One implementation per kind of hardware; contract: ``tests/tape/contract.py``.

    Attributes:
        warning: what was found amiss as it was opened, for the log; "" = nothing.
    """

    warning: str

    @property
    def write_protected(self) -> bool:
        """Whether the medium refuses writes."""
        ...

    def write_records(self, view: memoryview, record_size: int) -> Outcome:
        """Write ``view`` as records of ``record_size`` bytes each; done = records on tape.

        EARLY_WARNING: the records before it are on tape, the next is not. The write that crosses into early warning
        succeeds; the next one answers EARLY_WARNING once and writes nothing; then writes succeed until the end of
        medium, which FAILED with IO reports.
        """
        ...

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        """Read records of exactly ``record_size`` bytes into ``view``, as many as lie here in a row and fit.

        done = records read; 0 with NONE when the one here has another size or does not fit: read it by itself.
        """
        ...

    def read_record(self, view: memoryview, *, crosses_filemark: bool) -> Outcome:
        """Read one record into ``view``; done = bytes in it, the rest of a longer record is dropped.

        FILEMARK: nothing was read; the tape stays before the mark, or passes it when ``crosses_filemark``.
        """
        ...

    def write_filemarks(self, count: int) -> Outcome:
        """Write filemarks and make everything before them durable."""
        ...

    def space_files(self, count: int) -> Outcome:
        """Move over filemarks, backwards when negative: to the far side of the last one, seen in this direction."""
        ...

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        """Move over records, backwards when negative; a filemark ends it, on the near side or (crosses) the far one."""
        ...

    def locate(self, unit: Unit, number: int) -> Outcome:
        """Move behind so many objects (records and filemarks), so many filemarks, or to the end of data.

        END_OF_DATA: the tape ends before, and stands there.
        """
        ...

    def rewind(self) -> Outcome:
        """To BOT, after the implicit filemark where it is due."""
        ...

    def unload(self) -> Outcome:
        """Eject, after the implicit filemark where it is due; the drive then answers NO_TAPE_LOADED."""
        ...

    def test_ready(self) -> Outcome:
        """NO_TAPE_LOADED without a tape; no motion."""
        ...

    def position(self) -> Position:
        """Where the tape stands."""
        ...

    def objects(self) -> int | None:
        """Records and filemarks between BOT and here; None = not known."""
        ...

    def state(self) -> State:
        """What to tell of the drive; the position in it is what NDMP clients expect to be known."""
        ...

    def close(self, *, force: bool) -> Outcome:
        """Write the implicit filemark where it is due, make everything durable, close.

        After FAILED the drive is still open, unless ``force``.
        """
        ...
