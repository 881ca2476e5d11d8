"""TAPE of version 1: records of one size, padding, the end of a read. Source: NDMPv1 3.4; states.md 2.4."""

import struct
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.servers import Login, Server
from tests.support.v1_client import V1Client, refusal
from tests.support.v1_jobs import DRIVE, connect

pytestmark = pytest.mark.slow

KIB = 1024
RECORD_MAX = 1 << 20  # limits.record_size_max
READ_ONLY_CDBS = (0x00, 0x03, 0x12, 0x1A, 0x34, 0x4D, 0x5A)
CHANGING_CDBS = (0x01, 0x0A, 0x10, 0x11, 0x19, 0x1B, 0x2B, 0x15, 0x55, 0x91, 0x92, 0xC0, 0xFF)


@pytest.fixture
def client(shared: Server, login: Login) -> Iterator[V1Client]:
    """The drive open for writing, at the beginning of a tape without anything behind it, records of a KiB."""
    with connect(shared, login) as client:
        client.tape_open(DRIVE, v1.WRITE_MODE)
        client.mtio(v1.REW)
        client.set_record_size(KIB)
        yield client


def test_the_record_size_before_it_is_set(client: V1Client, shared: Server, login: Login) -> None:
    assert client.tape_write(b"x" * 100) == ("NO_ERR", KIB)
    client.tape_close()
    with connect(shared, login) as other:
        other.tape_open(DRIVE, v1.WRITE_MODE)
        assert other.tape_state().record_size == 10_240
        assert other.tape_write(b"x") == ("NO_ERR", 10_240)
        other.tape_close()


def test_a_write_is_padded_and_a_read_drops_the_rest(client: V1Client) -> None:
    """The examples of states.md 2.4."""
    data = bytes(range(1, 251)) * 6
    assert client.tape_write(data) == ("NO_ERR", 2 * KIB)
    assert client.tape_write(b"") == ("NO_ERR", 0)
    assert client.tape_write(b"next") == ("NO_ERR", KIB)
    state = client.tape_state()
    assert (state.file_num, state.record_num, state.blockno, state.record_size) == (0, 3, 3, KIB)
    client.mtio(v1.REW)
    assert client.tape_read(1500) == ("NO_ERR", data)
    assert client.tape_state().record_num == 2
    assert client.tape_read(10) == ("NO_ERR", b"next" + bytes(6))
    client.mtio(v1.REW)
    assert client.tape_read(KIB) == ("NO_ERR", data[:KIB])
    assert client.tape_read(0) == ("NO_ERR", b"")
    assert client.tape_read(KIB) == ("NO_ERR", data[KIB:] + bytes(2 * KIB - len(data)))


def test_a_filemark_comes_with_the_bytes_before_it(client: V1Client) -> None:
    client.tape_write(b"a" * 2 * KIB)
    client.mtio(v1.EOF)
    client.tape_write(b"b" * KIB)
    client.mtio(v1.REW)
    assert client.tape_read(4 * KIB) == ("EOF_ERR", b"a" * 2 * KIB)
    assert client.tape_read(KIB) == ("NO_ERR", b"b" * KIB)  # the mark is passed
    assert client.tape_read(KIB) == ("EOF_ERR", b"")  # blank tape, as often as one asks
    assert client.tape_read(KIB) == ("EOF_ERR", b"")
    assert client.mtio(v1.BSF) == 0
    assert client.tape_read(KIB) == ("EOF_ERR", b"")
    assert client.tape_state().file_num == 1


def test_records_of_another_size(client: V1Client) -> None:
    for size in (512, KIB, 3 * KIB):
        client.set_record_size(size)
        client.tape_write(bytes([size % 251]) * size)
    client.set_record_size(KIB)
    client.mtio(v1.REW)
    assert client.tape_read(3 * KIB) == ("NO_ERR", bytes([512 % 251]) * 512 + bytes([KIB % 251]) * KIB
                                         + bytes([3 * KIB % 251]) * KIB)  # fmt: skip
    assert client.tape_read(KIB) == ("EOF_ERR", b"")


def test_motions_and_their_residuals(client: V1Client) -> None:
    for _ in range(3):
        client.tape_write(b"r" * 2 * KIB)
        client.mtio(v1.EOF)
    assert client.mtio(v1.BSF, 5) == 2
    assert client.mtio(v1.FSF, 2) == 0
    state = client.tape_state()
    assert (state.file_num, state.record_num) == (2, 0)
    assert client.mtio(v1.FSR, 1) == 0
    assert client.tape_state().record_num == 1
    assert client.mtio(v1.BSR, 1) == 0
    assert client.tape_state().record_num == 0
    assert refusal(client.mtio, 7) == "ILLEGAL_ARGS_ERR"


def test_which_record_sizes_there_are(client: V1Client) -> None:
    for size in (0, RECORD_MAX + 1, 0xFFFF_FFFF):
        assert refusal(client.set_record_size, size) == "ILLEGAL_ARGS_ERR"
        assert client.tape_state().record_size == KIB
    for size in (1, 77, RECORD_MAX):
        client.set_record_size(size)
        assert client.tape_state().record_size == size
    client.tape_close()
    assert refusal(client.set_record_size, KIB) == "DEV_NOT_OPEN_ERR"
    client.tape_open(DRIVE, v1.WRITE_MODE)
    assert client.tape_state().record_size == RECORD_MAX  # as set last


def test_more_than_a_transfer_holds(client: V1Client) -> None:
    most = 4 * RECORD_MAX
    client.set_record_size(RECORD_MAX)
    assert client.tape_write(bytes(most)) == ("NO_ERR", most)
    client.mtio(v1.REW)
    assert client.tape_read(most) == ("NO_ERR", bytes(most))
    assert client.tape_write(bytes(most + 1)) == ("ILLEGAL_ARGS_ERR", 0)
    assert client.tape_read(most + 1) == ("ILLEGAL_ARGS_ERR", b"")


def test_a_drive_opened_for_reading(client: V1Client) -> None:
    client.tape_write(b"kept")
    client.mtio(v1.EOF)
    client.tape_close()
    client.tape_open(DRIVE, v1.READ_MODE)
    client.mtio(v1.REW)
    assert client.tape_write(b"more") == ("PERMISSION_ERR", 0)
    assert refusal(client.mtio, v1.EOF) == "PERMISSION_ERR"
    assert client.tape_read(4) == ("NO_ERR", b"kept")
    assert refusal(client.tape_open, DRIVE, 2) == "ILLEGAL_ARGS_ERR"


def test_a_cdb_may_ask_and_change_nothing(client: V1Client) -> None:
    """3.4.8."""
    client.tape_write(b"here")
    for opcode in CHANGING_CDBS:
        cdb = bytes([opcode, 0, 0, 0, 0, 0])
        assert refusal(client.execute_cdb, v1.TAPE_EXECUTE_CDB, cdb) == "ILLEGAL_ARGS_ERR"
    assert refusal(client.execute_cdb, v1.TAPE_EXECUTE_CDB, b"") == "ILLEGAL_ARGS_ERR"
    assert client.tape_state().record_num == 1
    for opcode in READ_ONLY_CDBS:
        client.execute_cdb(v1.TAPE_EXECUTE_CDB, bytes([opcode, *bytes(9)]), 255)
    assert client.tape_state().record_num == 1


def test_the_end_of_the_medium(make_server: MakeServer, login: Login) -> None:
    """EOM_ERR once at early warning, with the count of what is on tape; writing on is possible until the end."""
    server = make_server("server", cartridge_size="64KiB", early_warning="16KiB")
    with connect(server, login) as client:
        client.tape_open(DRIVE, v1.WRITE_MODE)
        client.set_record_size(4 * KIB)
        error, count = client.tape_write(b"e" * 64 * KIB)
        assert error == "EOM_ERR"
        assert count % (4 * KIB) == 0
        assert 40 * KIB < count < 64 * KIB
        assert client.tape_state().record_num * 4 * KIB == count
        error, more = client.tape_write(b"f" * 64 * KIB)
        assert error == "IO_ERR"
        assert client.tape_state().record_num * 4 * KIB == count + more
        assert client.tape_state().flags & 0x20  # ERROR
        client.mtio(v1.REW)
        assert client.tape_read(count) == ("NO_ERR", b"e" * count)


def test_words_of_the_state(client: V1Client) -> None:
    """3.4.3: 48 bytes, in the order of the draft."""
    reply = client.reply_to(client.send(v1.TAPE_GET_STATE))
    assert reply.size == 48
    client.tape_write(b"x" * 2 * KIB)
    client.mtio(v1.EOF)
    client.tape_write(b"x" * KIB)
    state = client.tape_state()
    assert (state.file_num, state.record_num, state.record_size, state.soft_errors, state.blockno) == (1, 1, KIB, 0, 1)
    assert state.total_space > state.space_remain > 0


def test_numbers_that_version_1_lacks(client: V1Client) -> None:
    for code in (0x102, 0x103, 0x104, 0x108, 0x405, 0x406, 0x409, 0x40A, 0x903, 0xA00, 0xA08, 0x123):
        reply = client.reply_to(client.send(code, struct.pack(">I", 1)))
        assert (v1.ERRORS[reply.error], reply.size) == ("NOT_SUPPORTED_ERR", 0)
