"""CDBs over iSCSI: URLs, and the transport against tgtd."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.tape import iscsi
from mover.tape.__main__ import need
from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.iscsi import Address, IscsiTransport, parse_url, prepare
from mover.tape.sense import Key, parse_sense
from mover.tape.transport import Status, TransportError
from mover.workers.confine import Grant
from mover.workers.device_messages import DeviceSpec, OpenDevice
from mover.workers.tape_messages import OpenDrive
from tests.support.tgtd import Tgtd

TIMEOUT_S = 60
INQUIRY = b"\x12\0\0\0\x24\0"
CHAP = ("operator", "a-secret-of-14")
over_tgtd = [pytest.mark.slow, pytest.mark.peer("tgtd", "tgtadm", "tgtimg", "iscsi-ls")]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("iscsi://host/iqn.2026-01.a:b/1", Address("host", 3260, "iqn.2026-01.a:b", 1)),
        ("iscsi://10.0.0.1:3261/eui.0123456789ABCDEF/0", Address("10.0.0.1", 3261, "eui.0123456789ABCDEF", 0)),
        ("iscsi://[::1]:65535/iqn.x/16383", Address("::1", 65535, "iqn.x", 16383)),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "", "iscsi://", "iscsi://host", "iscsi://host/iqn", "iscsi://host/iqn/", "iscsi://host/iqn/x", "iscsi://host/iqn/1/2",
        "iscsi://user%secret@host/iqn/1", "iscsi://host:0/iqn/1", "iscsi://host:65536/iqn/1", "iscsi://host/iqn/16384",
        "iscsi://host/iqn/1\n", "iscsi://ho\0st/iqn/1", "http://host/iqn/1", "iscsi://host/" + "i" * 300 + "/1",
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_url(url)
    assert prepare(url) == ()
    with pytest.raises(DriveError) as caught:
        IscsiTransport(DeviceSpec("t0", url))
    assert caught.value.error == Error.ILLEGAL_ARGS


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsi, "LIBRARY", "libiscsi.so.0")
    iscsi._library.cache_clear()
    try:
        with pytest.raises(DriveError, match=r"t0: iSCSI needs libiscsi\.so\.0 \(Debian: libiscsi7\)"):
            IscsiTransport(DeviceSpec("t0", "iscsi://127.0.0.1/iqn.x/1"))
    finally:
        iscsi._library.cache_clear()


def test_a_worker_gets_the_port_of_its_target_and_nothing_else() -> None:
    for url, ports in (
        ("iscsi://127.0.0.1/iqn.x/1", (3260,)),
        ("iscsi://[::1]:4000/iqn.x/1", (4000,)),
        ("iscsi://no such host/iqn.x/1", ()),
    ):
        spec = DeviceSpec("t0", url)
        assert need(OpenDevice(spec)) == need(OpenDrive(spec, 0, implicit_filemark=True)) == Grant(ports=ports)


def test_a_secret_is_not_printed() -> None:
    assert "secret" not in repr(DeviceSpec("t0", "iscsi://h/iqn.x/1", chap_user="u", chap_secret="secret"))


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    with Tgtd(tmp_path / "tgtd") as started:
        yield started


@pytest.fixture
def transport(tgtd: Tgtd) -> Iterator[IscsiTransport]:
    opened = IscsiTransport(DeviceSpec("t0", tgtd.url()))
    yield opened
    opened.close()


class TestOverTgtd:
    """The transport and what it does when the target goes away."""

    pytestmark = over_tgtd

    def test_data_both_ways_with_status_and_sense(self, transport: IscsiTransport) -> None:
        buffer = memoryview(bytearray(36))
        assert transport.execute(INQUIRY, buffer, timeout_s=TIMEOUT_S) == (Status.GOOD, b"", 36)
        assert bytes(buffer[8:16]) == b"TESTDRV "
        record = memoryview(bytes(range(256)) * 2048)  # read-only memory is written as well
        write = b"\x0a\0" + len(record).to_bytes(3) + b"\0"
        assert transport.execute(write, record, writes=True, timeout_s=TIMEOUT_S).status == Status.GOOD
        transport.execute(b"\x01" + bytes(5), timeout_s=TIMEOUT_S)
        read = memoryview(bytearray(len(record)))
        assert transport.execute(b"\x08" + write[1:], read, timeout_s=TIMEOUT_S) == (Status.GOOD, b"", len(record))
        assert read == record
        reply = transport.execute(b"\x08" + write[1:], read, timeout_s=TIMEOUT_S)
        sense = parse_sense(reply.sense)
        assert sense is not None
        assert (reply.status, sense.key) == (Status.CHECK_CONDITION, Key.BLANK_CHECK)

    def test_no_cdb_longer_than_the_library_has_room_for(self, transport: IscsiTransport) -> None:
        for length in (0, 17, 260):
            with pytest.raises(TransportError, match=f"a CDB of {length} bytes, at most 16"):
                transport.execute(bytes(length), timeout_s=TIMEOUT_S)
        assert transport.execute(bytes(16), timeout_s=TIMEOUT_S).status == Status.GOOD

    def test_a_closed_transport(self, transport: IscsiTransport) -> None:
        transport.close()
        transport.close()
        with pytest.raises(TransportError, match="closed"):
            transport.execute(INQUIRY, timeout_s=TIMEOUT_S)

    def test_a_target_that_dies_is_not_come_back_to(self, tgtd: Tgtd, transport: IscsiTransport) -> None:
        tgtd.kill()
        for _ in range(2):
            with pytest.raises(TransportError, match="session with the target is lost") as caught:
                transport.execute(bytes(6), timeout_s=TIMEOUT_S)
            assert not caught.value.timed_out
        with pytest.raises(DriveError, match="no connection") as refused:
            IscsiTransport(DeviceSpec("t0", tgtd.url()))
        assert refused.value.error == Error.IO

    def test_a_target_that_hangs(self, tgtd: Tgtd, transport: IscsiTransport) -> None:
        os.kill(tgtd.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TransportError, match="no answer within 1 s") as caught:
                transport.execute(bytes(6), timeout_s=1)
            assert caught.value.timed_out
            with pytest.raises(TransportError, match="no answer"):
                transport.execute(bytes(6), timeout_s=1)
            transport.close()
        finally:
            os.kill(tgtd.pid, signal.SIGCONT)

    def test_who_is_let_in(self, tmp_path: Path) -> None:
        with Tgtd(tmp_path / "chap", chap=CHAP) as tgtd:
            user, secret = CHAP
            IscsiTransport(DeviceSpec("t0", tgtd.url(), chap_user=user, chap_secret=secret)).close()
            for wrong in (("", ""), (user, "another-secret"), ("somebody", secret)):
                with pytest.raises(DriveError, match=r"login: .*Authentication failure") as caught:
                    IscsiTransport(DeviceSpec("t0", tgtd.url(), chap_user=wrong[0], chap_secret=wrong[1]))
                assert caught.value.error == Error.PERMISSION
                assert secret not in str(caught.value)

    def test_between_commands_the_target_is_answered(self, tgtd: Tgtd, monkeypatch: pytest.MonkeyPatch) -> None:
        """A session that the target ended meanwhile is found without a command."""
        monkeypatch.setattr(iscsi, "IDLE_S", 0.05)
        transport = IscsiTransport(DeviceSpec("t0", tgtd.url()))
        tgtd.kill()
        deadline = time.monotonic() + TIMEOUT_S
        while not transport.broken and time.monotonic() < deadline:
            time.sleep(0.02)  # its thread looks by itself
        assert "lost" in transport.broken
        transport.close()
