"""NDMJOB's series of nine tape files: written, read back and walked over, with the position after every step.

Each check stands alone: it writes the series anew when it is not on the tape. Source: states.md 5.6 to 5.10.
"""

import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import WRITES_TAPE, Check, clause
from mover.conformance.results import MismatchError
from mover.conformance.session import Session
from mover.conformance.stages import open_tape
from mover.conformance.tape_steps import Place, blank, mtio, read, read_error, rewind, stands, write
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode, TapeOperation

# records, bytes of each
FILES: Final = (
    (1, 512), (100, 1024), (1, 512), (100, 139), (1, 512), (99, 10240), (1, 512), (3, 32768), (1, 512),
)  # fmt: skip
MANY: Final = 1_000_000
LARGEST: Final = 32768
EOF: Final = ErrorCode.EOF_ERR.name
OP = TapeOperation


def series_checks(version: int) -> Iterator[Check]:
    """The checks of the phases T-WRITE, T-READ and T-MTIO."""

    def check(name: str, message: str, section: str, run: object) -> Check:
        notes = f"states.md {section}; NDMJOB test-tape"
        return Check(name, clause(version, f"TAPE_{message}", notes), run, WRITES_TAPE, "TAPE")  # type: ignore[arg-type]  # functions below

    yield check("series: nine files written [T-WRITE]", "WRITE", "5.8", _write_all)
    yield check("series: read from end to end [T-READ]", "READ", "5.6", _read_all)
    for number, (records, size) in enumerate(FILES):
        where = f"series: file {number}, {records} x {size}"
        steps = {
            "its records and its filemark [T-READ]": ("READ", "5.6", _read_file),
            f"FSR {MANY} stops at the mark [T-MTIO]": ("MTIO", "5.7", _far_forward),
            f"BSR {MANY} from its end [T-MTIO]": ("MTIO", "5.7", _far_back),
            "FSR into it, then READ [T-MTIO]": ("MTIO", "5.7", _forward_and_read),
            "BSR 2, then READ [T-MTIO]": ("MTIO", "5.7", _back_and_read),
        }
        for what, (message, section, run) in steps.items():
            yield check(f"{where}: {what}", message, section, partial(run, number=number))
    yield check("series: FSF and BSF over it in both directions [T-MTIO]", "MTIO", "5.7", _by_files)
    yield check("series: behind its end [T-READ]", "READ", "5.6", _behind)


def _record(number: int, at: int) -> bytes:
    """What record `at` of a file holds: no two are alike."""
    size = FILES[number][1]
    return struct.pack(">II", number, at) + bytes([number * 16 + at % 16]) * (size - 8)


def _write_all(session: Session) -> None:
    open_tape(session)
    for number, (records, _) in enumerate(FILES):
        for at in range(records):
            write(session, _record(number, at))
            stands(session, Place(number, at + 1))
        mtio(session, OP.EOF, 1)
        stands(session, Place(number + 1, 0))


def _ready(session: Session) -> None:
    """The series is on the tape, which stands at BOT."""
    open_tape(session)
    if not _on_tape(session):
        rewind(session)
        for number, (records, _) in enumerate(FILES):
            for at in range(records):
                write(session, _record(number, at))
            mtio(session, OP.EOF, 1)
    rewind(session)


def _on_tape(session: Session) -> bool:
    try:
        read(session, LARGEST, _record(0, 0))
        mtio(session, OP.FSF, len(FILES))
        mtio(session, OP.FSF, 1, left=1)
    except MismatchError:
        return False
    return True


def _at_file(session: Session, number: int) -> None:
    _ready(session)
    mtio(session, OP.FSF, number)
    stands(session, Place(number, 0))


def _read_records(session: Session, number: int) -> None:
    records, size = FILES[number]
    for at in range(records):
        read(session, size, _record(number, at))
        stands(session, Place(number, at + 1))


def _mark(session: Session, number: int) -> None:
    """Read a filemark: version 4 stays before it, the older ones stand behind it."""
    read_error(session, EOF)
    if session.version == 4:
        stands(session, Place(number, FILES[number][0], unknown_too=True))
        mtio(session, OP.FSF, 1)
    stands(session, Place(number + 1, 0, unknown_too=session.version < 4))


def _read_all(session: Session) -> None:
    _ready(session)
    for number in range(len(FILES)):
        _read_records(session, number)
        _mark(session, number)
    read_error(session, blank(session))


def _read_file(session: Session, number: int) -> None:
    _at_file(session, number)
    _read_records(session, number)
    _mark(session, number)


def _far_forward(session: Session, number: int) -> None:
    records = FILES[number][0]
    _at_file(session, number)
    mtio(session, OP.FSR, MANY, left=MANY - records)
    stands(session, Place(number, records) if session.version == 4 else Place(number + 1, 0))


def _far_back(session: Session, number: int) -> None:
    records = FILES[number][0]
    _at_file(session, number)
    mtio(session, OP.FSR, records)
    mtio(session, OP.BSR, MANY, left=MANY - records)
    if session.version == 4 or number == 0:
        stands(session, Place(number, 0))
    else:
        stands(session, Place(number - 1, FILES[number - 1][0], unknown_too=True))


def _forward_and_read(session: Session, number: int) -> None:
    records, size = FILES[number]
    _ready(session)
    for at in sorted({0, records // 2, records - 1}):
        rewind(session)
        mtio(session, OP.FSF, number)
        mtio(session, OP.FSR, at)
        stands(session, Place(number, at))
        read(session, size, _record(number, at))


def _back_and_read(session: Session, number: int) -> None:
    records, size = FILES[number]
    _at_file(session, number)
    mtio(session, OP.FSR, records)
    back = min(2, records)
    mtio(session, OP.BSR, back)
    stands(session, Place(number, records - back))
    read(session, size, _record(number, records - back))


def _by_files(session: Session) -> None:
    _ready(session)
    mtio(session, OP.FSF, len(FILES))
    stands(session, Place(len(FILES), 0))
    for number in range(len(FILES) - 1, 0, -1):
        mtio(session, OP.BSF, 2)  # in front of the mark before the file
        stands(session, Place(number - 1, None))
        mtio(session, OP.FSF, 1)
        stands(session, Place(number, 0))
        read(session, LARGEST, _record(number, 0))
        mtio(session, OP.BSF, 1)
        mtio(session, OP.FSF, 1)
    mtio(session, OP.BSF, 100, left=99)
    stands(session, Place(0, 0))


def _behind(session: Session) -> None:
    _ready(session)
    mtio(session, OP.FSF, len(FILES))
    for _ in range(2):
        read_error(session, blank(session))
    mtio(session, OP.FSF, 1, left=1)
    mtio(session, OP.FSR, 1, left=1)
    session.done(m.TapeGetStateRequest())
