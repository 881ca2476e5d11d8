"""TAPE through the real server: motions and transfers with exact residuals and counters, the sides of a filemark of
each version, early warning and the end of the cartridge, sizes that are not.

The series are literal; a walk of many steps is held against a tape that is a list. Source: states.md 5.2 to 5.10.
"""

import itertools
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.ndmp.enums import UNKNOWN_U32, ErrorCode, MoverMode, MoverState, TapeFlag, TapeMode, TapeOperation
from mover.ndmp.messages import (
    MoverStopRequest,
    NotifyMoverHaltedPost,
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioReply,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteReply,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, Server
from tests.support.stages import DRIVE, RECORD, bring_mover, open_tape, stage

pytestmark = pytest.mark.slow

KIB = 1024
LIMIT = KIB * KIB  # limits.record_size_max
FSF, BSF, FSR, BSR = TapeOperation.FSF, TapeOperation.BSF, TapeOperation.FSR, TapeOperation.BSR
REW, EOF, OFF, TUR = TapeOperation.REW, TapeOperation.EOF, TapeOperation.OFF, TapeOperation.TUR


def position(client: NdmpClient) -> tuple[int, int | None]:
    """file_num and blockno; None = unknown."""
    state = tape_state(client)
    return state.file_num, None if state.blockno == UNKNOWN_U32 else state.blockno


def tape_state(client: NdmpClient) -> TapeGetStateReply:
    state = client.ok(TapeGetStateRequest())
    assert isinstance(state, TapeGetStateReply)
    return state


def mtio(client: NdmpClient, operation: int, count: int = 1) -> tuple[str, int]:
    """The error's name and what was not done."""
    body = client.ask(TapeMtioRequest(operation, count)).body
    assert isinstance(body, TapeMtioReply)
    return ErrorCode(body.error).name, body.resid_count


def write(client: NdmpClient, data: bytes) -> tuple[str, int]:
    body = client.ask(TapeWriteRequest(data)).body
    assert isinstance(body, TapeWriteReply)
    return ErrorCode(body.error).name, body.count


def read(client: NdmpClient, count: int) -> tuple[str, bytes]:
    body = client.ask(TapeReadRequest(count)).body
    assert isinstance(body, TapeReadReply)
    return ErrorCode(body.error).name, body.data_in


def content(client: NdmpClient) -> list[list[bytes]]:
    """All tape files from the beginning, as version 4 reads them."""
    assert mtio(client, REW) == ("NO_ERR", 0)
    files: list[list[bytes]] = [[]]
    while True:
        error, data = read(client, LIMIT)
        if error == "EOM_ERR":
            return files
        if error == "EOF_ERR":
            assert mtio(client, FSF) == ("NO_ERR", 0)
            files.append([])
        else:
            assert error == "NO_ERR"
            files[-1].append(data)


# --- series ---------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A motion or a read, what it answers in version 4 and in the older ones, and where the tape is then.

    A read's answer is its record; blockno None = unknown, or not told.
    """

    operation: TapeOperation | str
    times: int
    new: tuple[str, int | bytes, tuple[int, int | None]]
    old: tuple[str, int | bytes, tuple[int, int | None]]


def same(operation: TapeOperation | str, count: int, *answer: object) -> Step:
    return Step(operation, count, answer, answer)  # type: ignore[arg-type]  # the table's columns


A, B, C, D, E = (bytes([letter]) * size for letter, size in zip(b"ABCDE", (100, 2000, 30, 4000, 500), strict=True))
OK = "NO_ERR"
# BOT | A | B | C | FM | D | E | FM | (blank), as drawn in 5.10
SERIES = [
    same(REW, 0, OK, 0, (0, 0)),
    same(REW, 7, OK, 0, (0, 0)),  # its count is ignored
    same(FSR, 0, OK, 0, (0, 0)),
    same(BSR, 100, OK, 100, (0, 0)),
    same(BSF, 100, OK, 100, (0, 0)),
    same(FSR, 2, OK, 0, (0, 2)),
    same("READ", 4096, OK, C, (0, 3)),
    # before the first mark: version 4 stays, the older ones cross
    Step("READ", 4096, ("EOF_ERR", b"", (0, None)), ("EOF_ERR", b"", (1, 0))),
    Step("READ", 4096, ("EOF_ERR", b"", (0, None)), (OK, D, (1, 1))),
    same(REW, 1, OK, 0, (0, 0)),
    Step(FSR, 4, (OK, 1, (0, 3)), (OK, 1, (1, 0))),
    Step(FSR, 1, (OK, 1, (0, 3)), (OK, 0, (1, 1))),
    same(REW, 1, OK, 0, (0, 0)),
    same(FSF, 1, OK, 0, (1, 0)),
    # right behind the first mark: version 4 stays, the older ones cross backwards
    Step(BSR, 1, (OK, 1, (1, 0)), (OK, 1, (0, None))),
    Step(BSR, 1, (OK, 1, (1, 0)), (OK, 0, (0, 2))),
    same(REW, 1, OK, 0, (0, 0)),
    same(FSF, 1, OK, 0, (1, 0)),
    same(FSR, 2, OK, 0, (1, 2)),
    same(BSR, 1, OK, 0, (1, 1)),
    same("READ", 499, OK, E[:499], (1, 2)),  # the rest of the record is dropped
    Step(BSR, 3, (OK, 1, (1, 0)), (OK, 1, (0, None))),
    same(REW, 1, OK, 0, (0, 0)),
    same(FSF, 1, OK, 0, (1, 0)),
    same(BSF, 1, OK, 0, (0, None)),  # the side of BOT
    Step("READ", 100, ("EOF_ERR", b"", (0, None)), ("EOF_ERR", b"", (1, 0))),
    same(REW, 1, OK, 0, (0, 0)),
    same(FSF, 2, OK, 0, (2, 0)),
    same(FSF, 1, OK, 1, (2, 0)),  # blank
    same(FSR, 5, OK, 5, (2, 0)),
    Step("READ", 4096, ("EOM_ERR", b"", (2, 0)), ("EOF_ERR", b"", (2, 0))),
    Step("READ", 4096, ("EOM_ERR", b"", (2, 0)), ("EOF_ERR", b"", (2, 0))),
    same(BSF, 2, OK, 0, (0, None)),
    same(BSF, 2, OK, 2, (0, 0)),
    same(FSF, 100, OK, 98, (2, 0)),
    same(BSF, 100, OK, 98, (0, 0)),
    same("READ", 4096, OK, A, (0, 1)),  # a shorter record is normal
    same("READ", 0, OK, b"", (0, 1)),
    same("READ", 2000, OK, B, (0, 2)),
]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_sides_of_a_filemark(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        for number, data in enumerate((A, B, C), 1):
            assert write(client, data) == (OK, len(data))
            assert position(client) == (0, number)
        assert mtio(client, EOF) == (OK, 0)
        assert position(client) == (1, 0)
        for number, data in enumerate((D, E), 1):
            assert write(client, data) == (OK, len(data))
            assert position(client) == (1, number)
        assert mtio(client, EOF) == (OK, 0)
        assert position(client) == (2, 0)
        for number, step in enumerate(SERIES):
            what = f"step {number}: {step.operation} {step.times}"
            if step.operation == "READ":
                got: tuple[str, int | bytes] = read(client, step.times)
            else:
                assert isinstance(step.operation, TapeOperation)
                got = mtio(client, step.operation, step.times)
            expected = step.new if version == 4 else step.old
            assert (*got, position(client)) == expected, what


@pytest.mark.parametrize("version", [2, 3, 4])
def test_filemarks_by_count(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        assert mtio(client, EOF, 0) == (OK, 0)
        assert position(client) == (0, 0)
        assert write(client, A) == (OK, len(A))
        assert mtio(client, EOF, 3) == (OK, 0)
        assert position(client) == (3, 0)
        assert write(client, B) == (OK, len(B))
        assert mtio(client, EOF, 1) == (OK, 0)
        # a mark in the middle is the end of what was recorded
        assert mtio(client, REW) == (OK, 0)
        assert mtio(client, FSF, 2) == (OK, 0)
        assert mtio(client, EOF, 2) == (OK, 0)
        assert mtio(client, FSF, 9) == (OK, 9)
        assert position(client) == (4, 0)


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("ends", ["REW", "EOF REW", "CLOSE", "EOF CLOSE", "mover CLOSE", "BSR CLOSE"])
def test_the_implicit_filemark_is_version_4_s(version: int, ends: str, shared: Server, login: Login) -> None:
    """Written before REW and CLOSE, for TAPE_WRITE and for the mover (5.4), not before motions (5.9 item 6)."""
    with stage(shared, login, version) as at:
        client = at.client
        if ends == "mover CLOSE":
            connection = bring_mover(client, MoverState.ACTIVE, MoverMode.READ, at.peer)
            assert connection is not None
            connection.sendall(bytes(RECORD))
            connection.close()
            client.wait_for(NotifyMoverHaltedPost)
            client.ok(MoverStopRequest())
            records = [bytes(RECORD)]
        else:
            open_tape(client)
            records = [A, B]
            for data in records:
                assert write(client, data) == (OK, len(data))
        if ends.startswith("EOF"):
            assert mtio(client, EOF) == (OK, 0)
        if ends.startswith("BSR"):
            assert mtio(client, BSR, 100) == (OK, 98)
        if ends.endswith("REW"):
            assert mtio(client, REW) == (OK, 0)
        else:
            client.ok(TapeCloseRequest())
            client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
    marked = version == 4 or ends.startswith("EOF")
    with stage(shared, login, 4) as at:
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert content(at.client) == ([records, []] if marked else [records])


# --- a long walk against a list -------------------------------------------------------------------------------------


class ListTape:
    """A tape as a list of files, each a list of records; the naive reading of 5.4 to 5.7."""

    def __init__(self, version: int) -> None:
        self.new = version >= 4
        self.files: list[list[bytes]] = [[]]
        self.file, self.block = 0, 0
        self.told = True  # whether blockno has to be known
        self.due = False

    def _cut(self) -> None:
        del self.files[self.file + 1 :]
        del self.files[self.file][self.block :]

    def write(self, data: bytes) -> tuple[str, int]:
        self._cut()
        self.files[self.file].append(data)
        self.block += 1
        self.due = True
        return OK, len(data)

    def read(self, count: int) -> tuple[str, bytes]:
        if self.block < len(self.files[self.file]):
            self.block += 1
            return OK, self.files[self.file][self.block - 1][:count]
        if self.file + 1 == len(self.files):
            return ("EOM_ERR" if self.new else "EOF_ERR"), b""
        if self.new:
            self.told = False
        else:
            self.file, self.block = self.file + 1, 0
        return "EOF_ERR", b""

    def mtio(self, operation: TapeOperation, count: int) -> tuple[str, int]:
        records, last = len(self.files[self.file]), len(self.files) - 1
        match operation:
            case TapeOperation.EOF:
                if count:
                    self._cut()
                    self.files += [[] for _ in range(count)]
                    self.file, self.block, self.due = len(self.files) - 1, 0, False
                return OK, 0
            case TapeOperation.REW:
                if self.due and self.new:
                    self.files.append([])
                self.file, self.block, self.due = 0, 0, False
                return OK, 0
            case TapeOperation.FSF:
                done = min(count, last - self.file)
                if done < count:
                    self.file, self.block = last, len(self.files[last])
                elif count:
                    self.file, self.block = self.file + count, 0
            case TapeOperation.BSF:
                done = min(count, self.file)
                if done < count:
                    self.file, self.block = 0, 0
                elif count:
                    self.file -= count
                    self.block = len(self.files[self.file])
                    self.told = False
            case TapeOperation.FSR:
                done = min(count, records - self.block)
                self.block += done
                if done < count and self.file < last and not self.new:
                    self.file, self.block = self.file + 1, 0
            case TapeOperation.BSR:
                done = min(count, self.block)
                self.block -= done
                if done < count and self.file > 0 and not self.new:
                    self.file -= 1
                    self.block = len(self.files[self.file])
                    self.told = False
            case _:
                raise AssertionError(operation)
        return OK, count - done


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_long_walk(version: int, shared: Server, login: Login) -> None:
    choices = random.Random(version)
    model = ListTape(version)
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        model.mtio(EOF, 1)
        assert mtio(client, EOF, 1) == (OK, 0)
        for number in range(500):
            model.told = True
            operation = choices.choice(["WRITE", "WRITE", "READ", "READ", EOF, REW, FSF, BSF, FSR, FSR, BSR, BSR])
            count = choices.choice([0, 1, 1, 1, 2, 3, 100]) if operation != EOF else choices.choice([0, 1, 1, 2])
            what = f"step {number}: {operation} {count}"
            if operation == "WRITE":
                if model.file + 1 < len(model.files) and choices.random() < 0.8:
                    continue  # seldom in the middle, or the tape would stay short
                data = choices.randbytes(choices.choice([1, 2, 511, 512, 3000]))
                assert write(client, data) == model.write(data), what
            elif operation == "READ":
                wanted = choices.choice([1, 512, 4096])
                assert read(client, wanted) == model.read(wanted), what
            else:
                assert isinstance(operation, TapeOperation)
                assert mtio(client, operation, count) == model.mtio(operation, count), what
            file_num, blockno = position(client)
            assert file_num == model.file, what
            assert blockno in ({model.block} if model.told else {model.block, None}), what
    if version == 4 and model.due:
        model.files.append([])
    with stage(shared, login, 4) as at:
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert content(at.client) == model.files


# --- early warning and the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
def test_early_warning_comes_once_and_nothing_is_lost(version: int, make_server: MakeServer, login: Login) -> None:
    """The write that crosses is whole; the next is EOM_ERR and writes nothing; then writes go on to the end (5.5)."""
    server = make_server("server", cartridge_size="256KiB", early_warning="64KiB")
    size = 10_000
    numbers = itertools.count()
    written: list[bytes] = []

    with stage(server, login, version) as at:
        client = at.client
        open_tape(client)
        state = tape_state(client)
        assert (state.total_space, state.space_remain) == (256 * KIB, 256 * KIB)

        def next_record() -> tuple[str, int]:
            data = next(numbers).to_bytes(4, "big") * (size // 4)
            answer = write(client, data)
            if answer == (OK, size):
                written.append(data)
            return answer

        def until_refused() -> str:
            before = tape_state(client).space_remain
            while (answer := next_record()) == (OK, size):
                assert position(client) == (tape_state(client).file_num, len(written) - sum(marks))
                remain = tape_state(client).space_remain
                assert remain <= before - size
                before = remain
            assert answer[1] == 0
            assert tape_state(client).space_remain == before
            return answer[0]

        marks: list[int] = []
        assert until_refused() == "EOM_ERR"
        assert 192 * KIB <= len(written) * size + 8 * len(written) < 192 * KIB + size + 8
        assert position(client) == (0, len(written))
        assert next_record() == (OK, size)  # a trailer
        assert mtio(client, EOF, 2) == (OK, 0)
        marks.append(len(written))
        assert position(client) == (2, 0)
        assert until_refused() == "IO_ERR"
        assert tape_state(client).flags & TapeFlag.ERROR
        assert tape_state(client).space_remain < size + 8
        assert mtio(client, EOF) == (OK, 0)  # a mark still fits
        assert not tape_state(client).flags & TapeFlag.ERROR
        everything = list(written)

        # back out of the zone and over it once more: it warns again
        assert mtio(client, REW) == (OK, 0)
        written, marks = [], []
        assert until_refused() == "EOM_ERR"
        assert next_record() == (OK, size)
        rewritten = list(written)
        assert mtio(client, EOF) == (OK, 0)
    assert len(everything) > len(rewritten)
    with stage(server, login, 4) as at:
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert content(at.client) == [rewritten, []]


# --- modes, sizes, and drives without a tape ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
def test_sizes_that_are_not(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        assert read(client, 0x8000_0000) == ("ILLEGAL_ARGS_ERR", b"")  # arguments come before the device
        assert write(client, bytes(LIMIT + 1)) == ("ILLEGAL_ARGS_ERR", 0)
        assert write(client, b"") == ("DEV_NOT_OPEN_ERR", 0)
        open_tape(client)
        whole = bytes(range(256)) * (LIMIT // 256)
        for size in (LIMIT + 1, LIMIT + 4096):
            assert write(client, bytes(size)) == ("ILLEGAL_ARGS_ERR", 0)
        assert position(client) == (0, 0)
        assert write(client, whole) == (OK, LIMIT)
        assert write(client, b"") == (OK, 0)
        assert position(client) == (0, 1)
        assert mtio(client, REW) == (OK, 0)
        for count in (LIMIT + 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF):
            assert read(client, count) == ("ILLEGAL_ARGS_ERR", b"")
        assert read(client, 0) == (OK, b"")
        assert position(client) == (0, 0)
        assert read(client, LIMIT) == (OK, whole)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_operations_the_version_does_not_have(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        open_tape(at.client)
        assert mtio(at.client, 99, 3) == ("ILLEGAL_ARGS_ERR", 0)
        assert mtio(at.client, TUR, 3) == ((OK, 0) if version == 4 else ("ILLEGAL_ARGS_ERR", 0))


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_tape_open_for_reading_is_not_written(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        assert write(client, A) == (OK, len(A))
        assert mtio(client, REW) == (OK, 0)
        client.ok(TapeCloseRequest())
        open_tape(client, TapeMode.READ)
        assert write(client, B) == ("PERMISSION_ERR", 0)
        assert write(client, b"") == (OK, 0)  # no action, whatever the state of the drive
        assert mtio(client, EOF, 2) == ("PERMISSION_ERR", 2)
        assert mtio(client, EOF, 0)[1] == 0
        assert read(client, 4096) == (OK, A)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_protected_tape(version: int, make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server")
    (tape,) = (shm / "server" / "tapes").glob("*.tap")
    with stage(server, login, version) as at:
        open_tape(at.client)
        assert write(at.client, A) == (OK, len(A))
        assert mtio(at.client, EOF) == (OK, 0)
    tape.chmod(0o444)
    with stage(server, login, version) as at:
        client = at.client
        assert client.error(TapeOpenRequest(DRIVE, TapeMode.RDWR)) == ErrorCode.WRITE_PROTECT_ERR
        open_tape(client, TapeMode.RAW if version == 4 else TapeMode.READ)
        assert tape_state(client).flags & TapeFlag.WR_PROT
        refused = "WRITE_PROTECT_ERR" if version == 4 else "PERMISSION_ERR"
        assert write(client, B) == (refused, 0)
        assert mtio(client, EOF, 2) == (refused, 2)
        assert read(client, 4096) == (OK, A)
    tape.chmod(0o600)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_off_takes_the_cartridge_out(version: int, make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server")
    empty = ("NO_TAPE_LOADED_ERR", 0)
    with stage(server, login, version) as at:
        client = at.client
        open_tape(client)
        assert write(client, A) == (OK, len(A))
        assert mtio(client, OFF, 5) == (OK, 0)
        assert write(client, B) == empty
        assert read(client, 100) == ("NO_TAPE_LOADED_ERR", b"")
        assert mtio(client, REW, 1) == empty
        assert mtio(client, FSF, 3) == ("NO_TAPE_LOADED_ERR", 3)
        assert position(client) == (UNKNOWN_U32, None)
        if version == 4:
            assert mtio(client, TUR, 1) == empty
        client.ok(TapeCloseRequest())
        assert client.error(TapeOpenRequest(DRIVE, TapeMode.READ)) == ErrorCode.NO_TAPE_LOADED_ERR
        assert client.error(TapeOpenRequest(DRIVE, 123)) == ErrorCode.ILLEGAL_ARGS_ERR
        if version == 2:
            assert client.error(TapeOpenRequest(DRIVE, TapeMode.RAW)) == ErrorCode.ILLEGAL_ARGS_ERR
        else:
            client.ok(TapeOpenRequest(DRIVE, TapeMode.RAW))
            assert mtio(client, REW, 1) == empty
            client.ok(TapeCloseRequest())
    (tape,) = (shm / "server" / "tapes").glob("*.tap")
    server.ask("tape", "load", DRIVE.decode(), "--barcode", tape.stem)
    with stage(server, login, 4) as at:
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert content(at.client) == ([[A], []] if version == 4 else [[A]])


@pytest.mark.parametrize("version", [2, 3, 4])
def test_close_and_open_keep_the_position(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        for data in (A, B, C):
            assert write(client, data) == (OK, len(data))
        assert mtio(client, EOF) == (OK, 0)
        assert mtio(client, REW) == (OK, 0)
        assert mtio(client, FSR, 2) == (OK, 0)
        client.ok(TapeCloseRequest())
        client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert position(client) == (0, 2)
        assert read(client, 4096) == (OK, C)
