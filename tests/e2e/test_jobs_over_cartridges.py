"""Backups and recovers of trees that need several cartridges, which an operator changes: local and three-way.

Source: states.md 4.2 to 4.7, 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    DataConnectRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverContinueRequest,
    MoverReadRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    RecoverName,
    TapeMtioRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteRequest,
)
from mover.ndmp.messages.common import Address
from tests.e2e.conftest import MakeServer
from tests.support.cartridges import Changer, Segment, take
from tests.support.ndmp_client import ALL, NdmpClient, pairs
from tests.support.servers import Login
from tests.support.stages import data_state, listen, mover_state
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow

RECORD_SIZE = 20_480
READ, WRITE = MoverMode.READ, MoverMode.WRITE


class Rig(NamedTuple):
    """Both ends of the jobs, and the tape host's library."""

    data: NdmpClient
    tape: NdmpClient
    changer: Changer
    version: int

    def connect(self, mode: MoverMode, window: tuple[int, int]) -> Address | None:
        """Set up the mover and the data connection; what version 2 has to put into its START."""
        kind = AddressType.LOCAL if self.data is self.tape else AddressType.TCP
        address = listen(self.tape, mode, record_size=RECORD_SIZE, window=window, kind=kind)
        if self.version == 2:
            return address
        self.data.ok(DataConnectRequest(address))
        return None

    def stop(self) -> None:
        self.data.ok(DataStopRequest())
        self.tape.ok(MoverStopRequest())


@contextmanager
def rig(version: int, way: str, make_server: MakeServer, login: Login, cartridges: int = 3) -> Iterator[Rig]:
    tape_host = make_server("tape-host", cartridge_size="2MiB", early_warning="100KiB", load=False)
    tape = NdmpClient(tape_host.address, login=login, version=version)
    data = tape
    if way == "three-way":
        file_server = make_server("file-server", drives=0)
        data = NdmpClient(file_server.address, login=login, version=version)
    with Changer(tape_host, cartridges) as changer, tape, data:
        yield Rig(data, tape, changer, version)
        for client in {tape, data}:
            client.hang_up()


def back_up(rig: Rig, source: Path, butype: bytes = b"dump", window: int | None = None, **env: str) -> list[Segment]:
    """A whole backup; the last record's pad does not count.

    Args:
        window: bytes that go on each cartridge; None = up to early warning.
    """
    segments: list[Segment] = []
    rig.changer.change(rig.tape, rig.changer.barcodes[0])
    address = rig.connect(READ, (0, ALL if window is None else window))
    full = MoverPauseReason.EOF if rig.version == 2 else MoverPauseReason.EOW
    rig.data.ok(DataStartBackupRequest(butype, pairs(FILESYSTEM=str(source), **env), address))
    while isinstance(end := next_end(rig.tape), NotifyMoverPausedPost):
        assert end.reason == (MoverPauseReason.EOM if window is None else full)
        moved = mover_state(rig.tape).bytes_moved
        segments.append(segment(rig, segments, moved))
        assert segments[-1].length % RECORD_SIZE == 0
        rig.tape.ok(TapeMtioRequest(TapeOperation.EOF, 1))  # behind early warning a mark still fits
        rig.changer.change(rig.tape, rig.changer.barcodes[len(segments)])
        rig.tape.ok(MoverSetWindowRequest(moved, ALL - moved if window is None else window))
        rig.tape.ok(MoverContinueRequest())
    assert end.reason == MoverHaltReason.CONNECT_CLOSED
    assert take(rig.data, NotifyDataHaltedPost).reason == DataHaltReason.SUCCESSFUL
    moved = mover_state(rig.tape).bytes_moved
    assert moved == data_state(rig.data).bytes_processed
    segments.append(segment(rig, segments, moved))
    rig.tape.ok(TapeMtioRequest(TapeOperation.EOF, 1))
    rig.stop()
    return segments


def segment(rig: Rig, before: list[Segment], moved: int) -> Segment:
    assert rig.changer.loaded is not None
    offset = before[-1].end if before else 0
    return Segment(rig.changer.loaded, offset, moved - offset)


def recover(rig: Rig, segments: list[Segment], source: Path, target: Path, butype: bytes = b"dump") -> list[int]:
    """A whole recover; returns the offsets at which another cartridge was asked for."""
    rig.changer.change(rig.tape, segments[0].barcode, TapeMode.READ)
    address = rig.connect(WRITE, segments[0][1:])
    names = (RecoverName(b"", str(target).encode()),)
    rig.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(source)), names, butype, address))
    if rig.data is not rig.tape:
        wanted = take(rig.data, NotifyDataReadPost)
        assert (wanted.offset, wanted.length) == (0, ALL)
        rig.tape.ok(MoverReadRequest(wanted.offset, wanted.length))
    sought = []
    while isinstance(end := next_end(rig.tape), NotifyMoverPausedPost):
        assert end.reason == MoverPauseReason.SEEK
        if end.seek_position >= segments[-1].end:
            continue  # the end of the last window; DATA has all it wants
        (holder,) = [each for each in segments if each.offset <= end.seek_position < each.end]
        sought.append(end.seek_position)
        rig.changer.change(rig.tape, holder.barcode, TapeMode.READ)
        rig.tape.ok(MoverSetWindowRequest(*holder[1:]))
        rig.tape.ok(MoverContinueRequest())
    assert end.reason == MoverHaltReason.CONNECT_CLOSED
    assert take(rig.data, NotifyDataHaltedPost).reason == DataHaltReason.SUCCESSFUL
    rig.stop()
    return sought


def next_end(client: NdmpClient) -> NotifyMoverPausedPost | NotifyMoverHaltedPost:
    kinds = (NotifyMoverPausedPost, NotifyMoverHaltedPost)
    seen = client.wait_until(lambda seen: isinstance(seen.body, kinds), "a pause or a halt")
    client.posts.remove(seen)
    assert isinstance(seen.body, kinds)
    return seen.body


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_tree_over_cartridges(version: int, way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=200, directories=5)
    make_large_file(source / "large", size=2_500_000)
    with rig(version, way, make_server, login) as it:
        segments = back_up(it, source)
        assert len(segments) == 2
        sought = recover(it, segments, source, target)
    assert sought == [each.offset for each in segments[1:]]
    assert compare_trees(source, target).differences == []


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_recover_takes_all_before_a_media_error(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    """Version 4 halts the mover there; DATA gets every byte before, and then loses its connection (4.2)."""
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=100, directories=5)
    good = 12
    with rig(4, way, make_server, login) as it:
        (whole,) = back_up(it, source)
        assert whole.length > (good + 1) * RECORD_SIZE
        it.tape.ok(TapeMtioRequest(TapeOperation.REW, 1))
        records = [read(it.tape) for _ in range(good + 1)]
        it.tape.ok(TapeMtioRequest(TapeOperation.BSR, 1))
        it.tape.ok(TapeWriteRequest(records[good] + b"longer"))
        it.tape.ok(TapeMtioRequest(TapeOperation.REW, 1))
        address = it.connect(WRITE, (0, ALL))
        names = (RecoverName(b"", str(target).encode()),)
        it.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(source)), names, b"dump", address))
        if it.data is not it.tape:
            it.tape.ok(MoverReadRequest(0, ALL))
        assert take(it.tape, NotifyMoverHaltedPost).reason == MoverHaltReason.MEDIA_ERROR
        assert take(it.data, NotifyDataHaltedPost).reason == DataHaltReason.CONNECT_ERROR
        assert mover_state(it.tape).bytes_moved == good * RECORD_SIZE
        assert data_state(it.data).bytes_processed == good * RECORD_SIZE
        it.stop()
    recovered = [path for path in target.rglob("*") if path.is_file()]
    assert 20 < len(recovered) < 100
    whole_files = [path for path in recovered if path.read_bytes() == (source / path.relative_to(target)).read_bytes()]
    assert len(recovered) - len(whole_files) <= 1  # the one that the error cut


def read(client: NdmpClient) -> bytes:
    reply = client.ok(TapeReadRequest(RECORD_SIZE))
    assert isinstance(reply, TapeReadReply)
    return reply.data_in
