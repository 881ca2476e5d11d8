"""The mover's windows on the real server: pauses, cartridges changed by an operator, reads that seek; nothing is lost
and nothing comes twice.

Source: states.md 4.2 to 4.7, 5.5.
"""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mover.ndmp.enums import (
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    Body,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverContinueRequest,
    MoverReadRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.cartridges import Changer, Segment, receive, take
from tests.support.ndmp_client import ALL, NdmpClient
from tests.support.servers import Login, Server
from tests.support.stages import DRIVE, RECORD, Stage, bring_mover, listen, mover_state, open_tape, stage

pytestmark = pytest.mark.slow

READ, WRITE = MoverMode.READ, MoverMode.WRITE
KIB = 1024
REW, FSF, EOF = TapeOperation.REW, TapeOperation.FSF, TapeOperation.EOF


def position(client: NdmpClient) -> tuple[int, int]:
    state = client.ok(TapeGetStateRequest())
    assert isinstance(state, TapeGetStateReply)
    return state.file_num, state.blockno


def paused(client: NdmpClient) -> tuple[MoverPauseReason, int]:
    """The next pause, as posted; the state says the same."""
    post = take(client, NotifyMoverPausedPost)
    state = mover_state(client)
    assert (state.state, state.pause_reason) == (MoverState.PAUSED, post.reason)
    return MoverPauseReason(post.reason), post.seek_position


def halted(client: NdmpClient) -> MoverHaltReason:
    post = take(client, NotifyMoverHaltedPost)
    state = mover_state(client)
    assert (state.state, state.halt_reason) == (MoverState.HALTED, post.reason)
    return MoverHaltReason(post.reason)


def full_window(version: int) -> MoverPauseReason:
    return MoverPauseReason.EOF if version == 2 else MoverPauseReason.EOW


@contextmanager
def sending(connection: socket.socket, data: bytes) -> Iterator[None]:
    """Send the stream and its end in the background."""

    def run() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


def records(client: NdmpClient, count: int, size: int) -> list[bytes]:
    """The next records of the tape file."""
    found = []
    for _ in range(count):
        reply = client.ok(TapeReadRequest(size))
        assert isinstance(reply, TapeReadReply)
        found.append(reply.data_in)
    return found


# --- writing: windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_window_of_a_backup_is_a_tape_file(version: int, shared: Server, login: Login) -> None:
    """Paused when another record is wanted beyond the window; what is counted is on tape (4.3, 4.5)."""
    stream = random.Random(1).randbytes(10 * RECORD + 100)
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        connection = at.peer.connect(listen(client, READ, window=(0, 4 * RECORD)))
        with sending(connection, stream):
            for number in (1, 2):
                assert paused(client) == (full_window(version), 0)
                state = mover_state(client)
                assert (state.bytes_moved, state.record_num) == (4 * RECORD * number, 4 * number)
                assert (state.window_offset, state.window_length) == (4 * RECORD * (number - 1), 4 * RECORD)
                assert position(client) == (number - 1, 4)
                client.ok(TapeMtioRequest(EOF, 1))
                client.ok(MoverSetWindowRequest(4 * RECORD * number, 4 * RECORD))
                assert mover_state(client).record_num == 4 * number
                client.ok(MoverContinueRequest())
            assert halted(client) == MoverHaltReason.CONNECT_CLOSED
        state = mover_state(client)
        assert (state.bytes_moved, state.record_num) == (len(stream), 11)  # without the pad
        assert position(client) == (2, 3)
        client.ok(MoverStopRequest())
        client.ok(TapeMtioRequest(EOF, 1))
        client.ok(TapeMtioRequest(REW, 1))
        found = b""
        for number, count in enumerate((4, 4, 3)):
            assert position(client) == (number, 0)
            found += b"".join(records(client, count, RECORD))
            client.ok(TapeMtioRequest(FSF, 1))
        assert found == stream + bytes(RECORD - 100)


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("size", [0, 1, RECORD, 4 * RECORD])
def test_a_stream_that_fits_its_window_does_not_pause(version: int, size: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        open_tape(at.client)
        connection = at.peer.connect(listen(at.client, READ, window=(0, 4 * RECORD)))
        with sending(connection, bytes(size)):
            assert halted(at.client) == MoverHaltReason.CONNECT_CLOSED
        state = mover_state(at.client)
        assert (state.bytes_moved, state.record_num) == (size, -(-size // RECORD))
        assert not any(isinstance(seen.body, NotifyMoverPausedPost) for seen in at.client.posts)
        assert position(at.client) == (0, -(-size // RECORD))


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_full_cartridge_that_is_not_changed(version: int, make_server: MakeServer, login: Login) -> None:
    """EOM once, then on to the very end: version 4 halts with MEDIA_ERROR, the older ones pause (4.2)."""
    server = make_server("server", cartridge_size="256KiB", early_warning="64KiB", load=False)
    stream = random.Random(2).randbytes(400 * KIB)
    with Changer(server, 2) as changer, stage(server, login, version) as at:
        client = at.client
        changer.change(client, changer.barcodes[0])
        connection = at.peer.connect(listen(client, READ, record_size=10_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(stream)
        assert paused(client) == (MoverPauseReason.EOM, 0)
        warned_at = mover_state(client).record_num
        assert position(client) == (0, warned_at)
        client.ok(MoverSetWindowRequest(warned_at * 10_000, ALL - warned_at * 10_000))
        client.ok(MoverContinueRequest())
        if version == 4:
            assert halted(client) == MoverHaltReason.MEDIA_ERROR
            full_at = mover_state(client).record_num
            assert position(client) == (0, full_at)
            return
        assert paused(client)[0] == MoverPauseReason.MEDIA_ERROR
        state = mover_state(client)
        full_at = state.record_num
        assert full_at > warned_at
        assert (state.bytes_moved, position(client)) == (full_at * 10_000, (0, full_at))
        changer.change(client, changer.barcodes[1])  # the older ones go on elsewhere, and nothing is lost
        client.ok(MoverSetWindowRequest(full_at * 10_000, ALL - full_at * 10_000))
        client.ok(MoverContinueRequest())
        connection.shutdown(socket.SHUT_WR)
        while isinstance(end := next_end(client), NotifyMoverPausedPost):
            assert end.reason == MoverPauseReason.EOM
            client.ok(MoverContinueRequest())
        assert end.reason == MoverHaltReason.CONNECT_CLOSED
        assert mover_state(client).bytes_moved == len(stream)
        first = position(client)[1]
        client.ok(MoverStopRequest())
        client.ok(TapeMtioRequest(REW, 1))
        found = b"".join(records(client, first, 10_000))
        assert found[: len(stream) - full_at * 10_000] == stream[full_at * 10_000 :]


def next_end(client: NdmpClient) -> NotifyMoverPausedPost | NotifyMoverHaltedPost:
    kinds = (NotifyMoverPausedPost, NotifyMoverHaltedPost)
    seen = client.wait_until(lambda seen: isinstance(seen.body, kinds), "a pause or a halt")
    client.posts.remove(seen)
    assert isinstance(seen.body, kinds)
    return seen.body


# --- reading: windows -----------------------------------------------------------------------------------------------


def write_files(client: NdmpClient, files: list[list[bytes]]) -> None:
    """Write tape files, each with its mark, and rewind."""
    open_tape(client)
    for file in files:
        for data in file:
            client.ok(TapeWriteRequest(data))
        client.ok(TapeMtioRequest(EOF, 1))
    client.ok(TapeMtioRequest(REW, 1))


@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_worked_example(version: int, shared: Server, login: Login) -> None:
    """As in version 4's text: records of 10 bytes, a tape file with 80..119 of the stream, the next with 120 on."""
    stream = bytes(range(160))
    pieces = [stream[at : at + 10] for at in range(0, 160, 10)]
    with stage(shared, login, version) as at:
        client = at.client
        write_files(client, [pieces[:8], pieces[8:12], pieces[12:]])
        client.ok(TapeMtioRequest(FSF, 1))
        connection = at.peer.connect(listen(client, WRITE, record_size=10, window=(80, 40)))
        assert mover_state(client).record_num == 8
        client.ok(MoverReadRequest(95, 10))
        assert receive(connection, 10) == stream[95:105]
        client.ok(MoverReadRequest(115, 20))
        assert paused(client) == (MoverPauseReason.SEEK, 120)
        assert receive(connection, 5) == stream[115:120]
        state = mover_state(client)
        assert (state.record_num, state.bytes_left_to_read, state.bytes_moved) == (12, 15, 15)
        assert (state.window_offset, state.window_length) == (80, 40)
        client.ok(TapeMtioRequest(FSF, 1))
        client.ok(MoverSetWindowRequest(120, 40))
        assert mover_state(client).record_num == 12
        client.ok(MoverContinueRequest())
        assert receive(connection, 15) == stream[120:135]
        client.ok(MoverReadRequest(81, 5))  # outside at once: nothing moves
        before = position(client)
        assert paused(client) == (MoverPauseReason.SEEK, 81)
        assert position(client) == before
        client.ok(MoverCloseRequest())
        assert halted(client) == MoverHaltReason.CONNECT_CLOSED
        assert connection.recv(1) == b""


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_tape_without_window_ends_in_its_own_way(version: int, shared: Server, login: Login) -> None:
    """With the largest window the tape decides: filemark EOF, on its side of BOT; blank EOM (4.6 item 5)."""
    stream = random.Random(3).randbytes(6 * RECORD)
    pieces = [stream[at : at + RECORD] for at in range(0, len(stream), RECORD)]
    with stage(shared, login, version) as at:
        client = at.client
        write_files(client, [pieces[:4], pieces[4:]])
        connection = at.peer.connect(listen(client, WRITE))
        client.ok(MoverReadRequest(0, 7 * RECORD))
        assert paused(client) == (MoverPauseReason.EOF, 4 * RECORD)
        assert receive(connection, 4 * RECORD) == stream[: 4 * RECORD]
        assert position(client)[0] == 0
        client.ok(TapeMtioRequest(FSF, 1))
        client.ok(MoverSetWindowRequest(4 * RECORD, ALL - 4 * RECORD))
        client.ok(MoverContinueRequest())
        assert paused(client) == (MoverPauseReason.EOF, 6 * RECORD)
        assert receive(connection, 2 * RECORD) == stream[4 * RECORD :]
        client.ok(TapeMtioRequest(FSF, 1))
        client.ok(MoverSetWindowRequest(6 * RECORD, ALL - 6 * RECORD))
        client.ok(MoverContinueRequest())
        assert paused(client) == (MoverPauseReason.EOM, 6 * RECORD)
        assert mover_state(client).bytes_moved == 6 * RECORD


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("reopens", [False, True])
def test_going_on_without_a_new_window(version: int, reopens: bool, shared: Server, login: Login) -> None:
    """The stream goes on where it stopped, in the next tape file, also when another tape worker has the drive."""
    stream = random.Random(4).randbytes(7 * RECORD)
    pieces = [stream[at : at + RECORD] for at in range(0, len(stream), RECORD)]
    with stage(shared, login, version) as at:
        client = at.client
        write_files(client, [pieces[:3], pieces[3:]])
        connection = at.peer.connect(listen(client, WRITE))
        client.ok(MoverReadRequest(0, 7 * RECORD))
        assert paused(client) == (MoverPauseReason.EOF, 3 * RECORD)
        assert receive(connection, 3 * RECORD) == stream[: 3 * RECORD]
        if reopens:
            client.ok(TapeCloseRequest())
            client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        client.ok(TapeMtioRequest(FSF, 1))
        client.ok(MoverContinueRequest())
        assert receive(connection, 4 * RECORD) == stream[3 * RECORD :]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_reads_go_to_and_fro(version: int, shared: Server, login: Login) -> None:
    choices = random.Random(4)
    stream = choices.randbytes(50 * RECORD - 24)  # the window ends inside the last record
    padded = stream + bytes(24)
    with stage(shared, login, version) as at:
        client = at.client
        write_files(client, [[b"label"], [padded[each : each + RECORD] for each in range(0, len(padded), RECORD)]])
        client.ok(TapeMtioRequest(FSF, 1))
        connection = at.peer.connect(listen(client, WRITE, window=(0, len(stream))))
        moved = 0
        for _ in range(40):
            offset = choices.randrange(len(stream))
            length = choices.choice([1, 10, RECORD, choices.randrange(1, len(stream))])
            length = min(length, len(stream) - offset)
            client.ok(MoverReadRequest(offset, length))
            assert receive(connection, length) == stream[offset : offset + length]
            moved += length
        client.ok(MoverReadRequest(len(stream) - 10, 20))
        assert paused(client) == (MoverPauseReason.SEEK, len(stream))
        assert receive(connection, 10) == stream[-10:]
        state = mover_state(client)
        assert (state.bytes_moved, state.bytes_left_to_read) == (moved + 10, 10)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_records_of_another_size(version: int, shared: Server, login: Login) -> None:
    """A short one delivers what it has, a longer one is a media error (4.6 item 7)."""
    with stage(shared, login, version) as at:
        client = at.client
        write_files(client, [[b"a" * RECORD, b"b" * 100, b"c" * (RECORD + 1)]])
        connection = at.peer.connect(listen(client, WRITE))
        client.ok(MoverReadRequest(0, ALL))
        if version == 4:
            assert halted(client) == MoverHaltReason.MEDIA_ERROR
        else:
            assert paused(client)[0] == MoverPauseReason.MEDIA_ERROR
        assert receive(connection, RECORD + 100) == b"a" * RECORD + b"b" * 100
        assert mover_state(client).bytes_moved == RECORD + 100


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_was_read_before_a_media_error_arrives(version: int, local: Server, login: Login) -> None:
    """More than the ring and sockets hold: the halt or pause comes when all of it is on its way (4.2)."""
    size, count = 1 << 19, 28
    with stage(local, login, version) as at:
        client = at.client
        write_files(client, [[*(bytes([number]) * size for number in range(count)), bytes(size + 1)]])
        connection = at.peer.connect(listen(client, WRITE, record_size=size))
        client.ok(MoverReadRequest(0, ALL))
        for number in range(count):
            assert receive(connection, size) == bytes([number]) * size
        if version == 4:
            assert halted(client) == MoverHaltReason.MEDIA_ERROR
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert paused(client)[0] == MoverPauseReason.MEDIA_ERROR
        assert mover_state(client).bytes_moved == count * size


@pytest.mark.parametrize("version", [2, 3, 4])
def test_one_read_at_a_time(version: int, local: Server, login: Login) -> None:
    """Refused while one is unfinished, also while the mover waits for a peer that does not read."""
    size, count = 1 << 20, 24
    with stage(local, login, version) as at:
        client = at.client
        write_files(client, [[bytes([number]) * size for number in range(count)]])
        connection = at.peer.connect(listen(client, WRITE, record_size=size))
        client.ok(MoverReadRequest(0, count * size))
        busy = ErrorCode.READ_IN_PROGRESS_ERR if version == 4 else ErrorCode.ILLEGAL_STATE_ERR
        assert client.error(MoverReadRequest(0, 1)) == busy
        assert mover_state(client).bytes_left_to_read > 0
        for number in range(count):
            assert receive(connection, size) == bytes([number]) * size
        client.ok(MoverReadRequest(5 * size - 1, 2))
        assert receive(connection, 2) == bytes([4, 5])
        assert mover_state(client).seek_position == 5 * size - 1


# --- several cartridges ---------------------------------------------------------------------------------------------


@contextmanager
def three_cartridges(make_server: MakeServer, login: Login, version: int) -> Iterator[tuple[Stage, Changer]]:
    server = make_server("server", cartridge_size="512KiB", early_warning="100KiB", load=False)
    with Changer(server, 4) as changer, stage(server, login, version) as at:
        yield at, changer


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_stream_over_cartridges_and_back(version: int, make_server: MakeServer, login: Login) -> None:
    """EOM pauses while writing, SEEK pauses while reading; every byte once, whichever part is read."""
    size = 10_240
    choices = random.Random(version)
    stream = choices.randbytes(1_200_000)
    with three_cartridges(make_server, login, version) as (at, changer):
        client = at.client
        segments = write_over_cartridges(at, changer, stream, size)
        assert len(segments) == 3
        assert segments[-1].end == len(stream)
        client.ok(MoverStopRequest())

        loaded = segments[0]
        changer.change(client, loaded.barcode, TapeMode.READ)
        connection = at.peer.connect(listen(client, WRITE, record_size=size, window=loaded[1:]))
        reads = [(0, len(stream)), (len(stream) - 1, 1), (0, 1)]
        reads += [(segment.end - 5, 10) for segment in segments[:-1]]
        reads += [
            (start := choices.randrange(len(stream)), choices.randrange(1, len(stream) - start + 1)) for _ in range(4)
        ]
        for offset, length in reads:
            client.ok(MoverReadRequest(offset, length))
            wanted, end, found = offset, offset + length, b""
            while wanted < end:
                (holder,) = [segment for segment in segments if segment.offset <= wanted < segment.end]
                if holder != loaded:
                    assert paused(client) == (MoverPauseReason.SEEK, wanted)
                    assert mover_state(client).bytes_left_to_read == end - wanted
                    changer.change(client, holder.barcode, TapeMode.READ)
                    client.ok(MoverSetWindowRequest(*holder[1:]))
                    client.ok(MoverContinueRequest())
                    loaded = holder
                piece = min(end, holder.end) - wanted
                found += receive(connection, piece)
                wanted += piece
            assert found == stream[offset:end]
        client.ok(MoverCloseRequest())
        assert halted(client) == MoverHaltReason.CONNECT_CLOSED
        assert connection.recv(1) == b""


def write_over_cartridges(at: Stage, changer: Changer, stream: bytes, size: int) -> list[Segment]:
    """Write the stream through the mover, changing cartridges at EOM without a filemark, as ndmjob does."""
    client = at.client
    segments: list[Segment] = []
    changer.change(client, changer.barcodes[0])
    connection = at.peer.connect(listen(client, READ, record_size=size))
    with sending(connection, stream):
        while isinstance(end := next_end(client), NotifyMoverPausedPost):
            assert end.reason == MoverPauseReason.EOM
            state = mover_state(client)
            offset = segments[-1].end if segments else 0
            assert changer.loaded is not None
            segments.append(Segment(changer.loaded, offset, state.bytes_moved - offset))
            assert state.bytes_moved == state.record_num * size
            assert position(client) == (0, segments[-1].length // size)
            changer.change(client, changer.barcodes[len(segments)])
            client.ok(MoverSetWindowRequest(state.bytes_moved, ALL - state.bytes_moved))
            client.ok(MoverContinueRequest())
    assert end.reason == MoverHaltReason.CONNECT_CLOSED
    assert changer.loaded is not None
    offset = segments[-1].end
    segments.append(Segment(changer.loaded, offset, mover_state(client).bytes_moved - offset))
    return segments


# --- CLOSE and ABORT as the peer sees them --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    ("mode", "request_", "reason", "sees"),
    [
        # a reader's stream ends in order; a writer must not take the end for "all is on tape"
        (WRITE, MoverCloseRequest(), MoverHaltReason.CONNECT_CLOSED, "end of file"),
        (WRITE, MoverAbortRequest(), MoverHaltReason.ABORTED, "reset"),
        (READ, MoverCloseRequest(), MoverHaltReason.CONNECT_CLOSED, "reset"),
        (READ, MoverAbortRequest(), MoverHaltReason.ABORTED, "reset"),
    ],
    ids=["close-write", "abort-write", "close-read", "abort-read"],
)
@pytest.mark.parametrize("state", [MoverState.ACTIVE, MoverState.PAUSED])
def test_how_the_peer_sees_the_end(
    version: int,
    mode: MoverMode,
    request_: Body,
    reason: MoverHaltReason,
    sees: str,
    state: MoverState,
    shared: Server,
    login: Login,
) -> None:
    with stage(shared, login, version) as at:
        connection = bring_mover(at.client, state, mode, at.peer)
        assert connection is not None
        at.client.ok(request_)
        assert halted(at.client) == reason
        if sees == "reset":
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b""
