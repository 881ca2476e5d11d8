"""Single steps on an open tape, each judged: answer, residual, record, position."""

import msgspec

from mover.conformance.session import Session, must
from mover.ndmp import messages as m
from mover.ndmp.enums import UNKNOWN_U32, TapeOperation, TapeUnsupported


class Place(msgspec.Struct, frozen=True):
    """Where the tape must stand; blockno None = the server may say that it does not know."""

    file_num: int
    blockno: int | None
    unknown_too: bool = False  # all ones is right besides blockno


def mtio(session: Session, operation: TapeOperation, count: int, *, left: int = 0) -> None:
    """A motion, or filemarks, that must succeed and leave so many undone."""
    reply = session.ok(m.TapeMtioRequest(operation, count), m.TapeMtioReply)
    must(reply.resid_count == left, f"{operation.name} {count} to leave {left}", reply.resid_count)


def rewind(session: Session) -> None:
    mtio(session, TapeOperation.REW, 1)


def write(session: Session, data: bytes) -> None:
    """Write a record, whole."""
    reply = session.ok(m.TapeWriteRequest(data), m.TapeWriteReply)
    must(reply.count == len(data), f"{len(data)} bytes written", reply.count)


def read(session: Session, count: int, data: bytes) -> None:
    """Read a record that must be this."""
    got = session.ok(m.TapeReadRequest(count), m.TapeReadReply).data_in
    must(len(got) == len(data), f"a record of {len(data)} bytes", f"{len(got)} bytes")
    must(got == data, "the bytes that were written", "others")


def read_error(session: Session, error: str, count: int = 1024) -> None:
    """Read where there is no record."""
    answer = session.expect(m.TapeReadRequest(count), error)
    body = answer.body
    data = body.data_in if isinstance(body, m.TapeReadReply) else b""
    must(not data, f"no data with {error}", f"{len(data)} bytes")


def stands(session: Session, place: Place) -> None:
    """Judge file_num and blockno, as far as the server tells them."""
    state = session.ok(m.TapeGetStateRequest(), m.TapeGetStateReply)
    if not state.unsupported & TapeUnsupported.FILE_NUM:
        must(state.file_num == place.file_num, f"file_num {place.file_num}", state.file_num)
    if state.unsupported & TapeUnsupported.BLOCKNO or place.blockno is None:
        return
    if not (place.unknown_too and state.blockno == UNKNOWN_U32):
        must(state.blockno == place.blockno, f"blockno {place.blockno}", state.blockno)


def blank(session: Session) -> str:
    """What a read at the end of the recorded data is answered."""
    return "EOM_ERR" if session.version >= 4 else "EOF_ERR"
