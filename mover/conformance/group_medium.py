"""Group medium: the end of a small cartridge, and why a mover pauses; in version 1 an operation over several tapes.

A cartridge that is at its end is rewound and written again, as if the next one had been loaded. What is too large to
be filled within the deadline of a check is not begun.
Source: states.md 2.2, 2.3, 4.2, 4.5, 4.6, 5.5.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import WRITES_TAPE, Check, Need, clause
from mover.conformance.peer import numbered
from mover.conformance.results import SkippedError
from mover.conformance.session import Session, must, need
from mover.conformance.stages import ALL, listen_mover, need_address, open_tape, start_backup, until_mover
from mover.conformance.tape_steps import mtio, read, rewind, write
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataPauseReason,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeOperation,
    TapeUnsupported,
)

SMALL_BYTES: Final = 64 << 20
RECORD: Final = 32768
TAPES_MAX: Final = 200
EOM: Final = ErrorCode.EOM_ERR.name
WHOLE_BACKUP: Final = WRITES_TAPE | {Need.FILESYSTEM}
OP = TapeOperation


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    writing = clause(version, "TAPE_WRITE", "states.md 5.5" if version > 1 else "states.md 2.4")
    yield Check("TAPE_WRITE up to early warning, and a filemark behind it", writing, _warned, WRITES_TAPE, "TAPE")
    if version == 1:
        pause = clause(version, "NOTIFY_PAUSED", "states.md 2.2, 2.3")
        yield Check("a backup over several tapes pauses with EOM at the end of each", pause, _several, WHOLE_BACKUP,
                    "DATA")  # fmt: skip
        return

    def check(name: str, message: str, section: str, run: object) -> Check:
        notes = f"states.md {section}"
        return Check(name, clause(version, message, notes), run, WRITES_TAPE, "MOVER")  # type: ignore[arg-type]  # a function below

    paused = "NOTIFY_MOVER_PAUSED"
    yield check("a stream over several tapes: EOM at the end of each, nothing lost", paused, "4.2, 4.5", _spanned)
    yield check("a filemark pauses a mover that reads with EOF", paused, "4.2, 4.6", partial(_read_on, ends="filemark"))
    yield check("so does the end of the data with EOM or EOF", paused, "4.2, 4.6", partial(_read_on, ends="data"))
    yield check("a media error", paused, "4.2", _media_error)


def _small(session: Session) -> int:
    """The cartridge's size in bytes; raises SkippedError for one that takes too long to fill."""
    state = session.ok(m.TapeGetStateRequest(), m.TapeGetStateReply)
    told = not state.unsupported & TapeUnsupported.TOTAL_SPACE and 0 < state.total_space < ALL
    need(told, "the server does not tell the size of the cartridge")
    need(state.total_space <= SMALL_BYTES, f"needs a cartridge of at most {SMALL_BYTES >> 20} MiB in the drive")
    return state.total_space


def _warned(session: Session) -> None:
    open_tape(session)
    size = _small(session)
    if session.version == 1:
        session.done(m.TapeSetRecordSizeRequest(RECORD))
    count = 0
    while (answer := session.expect(m.TapeWriteRequest(numbered(count, RECORD)), "NO_ERR", EOM)).good:
        assert isinstance(answer.body, m.TapeWriteReply)
        must(answer.body.count == RECORD, f"{RECORD} bytes written", answer.body.count)
        count += 1
        must(count * RECORD <= size, f"{EOM} before {size} bytes, which the cartridge holds", "none")
    assert isinstance(answer.body, m.TapeWriteReply)
    if session.version >= 4:
        must(answer.body.count == 0, f"nothing written with {EOM}", f"{answer.body.count} bytes")
    else:
        must(answer.body.count in {0, RECORD}, f"a record or nothing with {EOM}", f"{answer.body.count} bytes")
    count += answer.body.count // RECORD
    mtio(session, OP.EOF, 1)
    rewind(session)
    mtio(session, OP.FSR, count - 1)
    read(session, RECORD, numbered(count - 1, RECORD))
    session.expect(m.TapeReadRequest(RECORD), ErrorCode.EOF_ERR.name)


# ---- version 1


def _several(session: Session) -> None:
    open_tape(session)
    _small(session)
    session.done(m.TapeSetRecordSizeRequest(RECORD), start_backup(session))
    before = 0
    for tapes in range(TAPES_MAX):
        post = session.wait_for_any(m.NotifyPausedPost, m.NotifyDataHaltedPost)
        if isinstance(post, m.NotifyDataHaltedPost):
            must(post.reason == DataHaltReason.SUCCESSFUL, "DATA halted SUCCESSFUL", f"reason {post.reason}")
            need(tapes > 0, "the file system fits on the cartridge")
            session.done(m.DataStopRequest())
            return
        assert isinstance(post, m.NotifyPausedPost)
        must(post.reason == DataPauseReason.EOM, "NOTIFY_PAUSED with EOM", f"reason {post.reason}")
        now = session.data_state()
        got = (now.state, now.pause_reason)
        must(got == (DataState.PAUSED, DataPauseReason.EOM), "PAUSED, EOM in GET_STATE", got)
        must(now.bytes_processed > before, f"more than {before} bytes processed", now.bytes_processed)
        before = now.bytes_processed
        mtio(session, OP.EOF, 1)
        rewind(session)
        session.posts.clear()
        session.done(m.DataContinueRequest())
    raise SkippedError(f"the file system takes more than {TAPES_MAX} such cartridges")


# ---- versions 2 to 4


def _spanned(session: Session) -> None:
    """Each record says which it is: what could not be written any more has to be the first on the next tape."""
    need_address(session, AddressType.TCP)
    open_tape(session)
    _small(session)
    connection = session.peer.connect(
        listen_mover(session, MoverMode.READ, AddressType.TCP, (0, ALL), record_size=RECORD)
    )
    until_mover(session, MoverState.ACTIVE)
    feeder = session.peer.feed(connection, RECORD)
    done = 0
    for tapes in range(TAPES_MAX):
        post = session.wait_for_any(m.NotifyMoverPausedPost, m.NotifyMoverHaltedPost)
        if isinstance(post, m.NotifyMoverHaltedPost):
            must(post.reason == MoverHaltReason.CONNECT_CLOSED, "halted CONNECT_CLOSED", f"reason {post.reason}")
            must(tapes > 0, "a pause at the end of the cartridge", "none")
            moved, sent = session.mover_state().bytes_moved, feeder.sent * RECORD
            must(moved == sent, f"{sent} bytes moved, which were sent", moved)
            return
        assert isinstance(post, m.NotifyMoverPausedPost)
        must(post.reason == MoverPauseReason.EOM, "NOTIFY_MOVER_PAUSED with EOM", f"reason {post.reason}")
        done = _next_tape(session, done)
        feeder.stop()
        session.posts.clear()
        session.done(m.MoverSetWindowRequest(done * RECORD, ALL - done * RECORD), m.MoverContinueRequest())
    raise SkippedError(f"what is under way takes more than {TAPES_MAX} such cartridges")


def _next_tape(session: Session, before: int) -> int:
    """Judge state and tape at a pause, and rewind; returns how many records have been written to all tapes."""
    now = session.mover_state()
    got = (now.state, now.pause_reason)
    must(got == (MoverState.PAUSED, MoverPauseReason.EOM), "PAUSED, EOM in GET_STATE", got)
    done = now.record_num
    must(done > before, f"more than {before} records", done)
    must(now.bytes_moved == done * RECORD, f"{done * RECORD} bytes in {done} records", now.bytes_moved)
    mtio(session, OP.EOF, 1)
    rewind(session)
    read(session, RECORD, numbered(before, RECORD))
    if done - before > 1:
        mtio(session, OP.FSR, done - before - 2)
        read(session, RECORD, numbered(done - 1, RECORD))
    session.expect(m.TapeReadRequest(RECORD), ErrorCode.EOF_ERR.name)
    rewind(session)
    return done


def _read_on(session: Session, ends: str) -> None:
    """A READ over two tape files: it pauses between them, and goes on where the tape has been put."""
    need_address(session, AddressType.TCP)
    open_tape(session)
    write(session, numbered(0, RECORD))
    mtio(session, OP.EOF, 1)
    if ends == "filemark":
        write(session, numbered(1, RECORD))
        mtio(session, OP.EOF, 1)
    rewind(session)
    connection = session.peer.connect(
        listen_mover(session, MoverMode.WRITE, AddressType.TCP, (0, ALL), record_size=RECORD)
    )
    until_mover(session, MoverState.ACTIVE)
    session.done(m.MoverReadRequest(0, 2 * RECORD))
    _paused(session, MoverPauseReason.EOF)
    must(session.peer.take(connection, RECORD) == numbered(0, RECORD), "the first record's bytes", "others")
    mtio(session, OP.FSF, 1)
    session.posts.clear()
    session.done(m.MoverSetWindowRequest(RECORD, ALL - RECORD), m.MoverContinueRequest())
    if ends == "filemark":
        must(session.peer.take(connection, RECORD) == numbered(1, RECORD), "the second record's bytes", "others")
        must(session.mover_state().state == MoverState.ACTIVE, "ACTIVE when all is read", session.mover_state().state)
    else:
        _paused(session, MoverPauseReason.EOM, MoverPauseReason.EOF)


def _paused(session: Session, *reasons: MoverPauseReason) -> None:
    post = session.wait_for_any(m.NotifyMoverPausedPost, m.NotifyMoverHaltedPost)
    words = " or ".join(reason.name for reason in reasons)
    must(isinstance(post, m.NotifyMoverPausedPost), f"NOTIFY_MOVER_PAUSED with {words}", type(post).__name__)
    assert isinstance(post, m.NotifyMoverPausedPost)
    must(post.reason in reasons, f"NOTIFY_MOVER_PAUSED with {words}", f"reason {post.reason}")
    now = session.mover_state()
    must(now.pause_reason == post.reason, f"pause reason {post.reason} in GET_STATE", now.pause_reason)
    must(now.bytes_left_to_read == RECORD, f"{RECORD} bytes left to read", now.bytes_left_to_read)


def _media_error(session: Session) -> None:
    raise SkippedError("nothing that a client can do makes a tape unreadable")
