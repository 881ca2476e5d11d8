"""Direct access to files that lie on several cartridges: the mover pauses where the wanted one is not in the drive.

Source: states.md 4.6, 4.7.
"""

import os
import selectors
import time
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.client import Post
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode, MoverPauseReason, TapeMode
from mover.ndmp.messages import (
    Body,
    DataStartRecoverRequest,
    FhAddFilePost,
    File,
    MoverContinueRequest,
    MoverReadRequest,
    MoverSetWindowRequest,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    RecoverName,
)
from mover.ndmp.messages.common import Pval
from tests.e2e.conftest import MakeServer
from tests.e2e.test_jobs_over_cartridges import RECORD_SIZE, Rig, back_up, rig
from tests.e2e.test_jobs_over_cartridges import recover as recover_all
from tests.support.cartridges import Segment
from tests.support.ndmp_client import NdmpClient, Seen, pairs
from tests.support.servers import Login
from tests.support.stages import data_state
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0


def next_post(clients: set[NdmpClient], *kinds: type[Body]) -> Body:
    """The first post of one of these kinds that came or comes on any of the connections; no reply may be due."""
    deadline = time.monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while True:
            for client in clients:
                while (event := client.protocol.next_event()) is not None:
                    assert isinstance(event, Post)
                    client.posts.append(Seen(time.monotonic(), event.body))
                for seen in client.posts:
                    if isinstance(seen.body, kinds):
                        client.posts.remove(seen)
                        return seen.body
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            assert ready, f"none of {kinds} in time"
            for key, _ in ready:
                data = key.data.socket.recv(1 << 18)
                assert data, "the server closed the connection"
                key.data.protocol.feed(data)


def history(client: NdmpClient) -> dict[bytes, File]:
    """The path based history that a backup has sent."""
    files = [file for seen in client.posts if isinstance(seen.body, FhAddFilePost) for file in seen.body.files]
    return {getattr(file.names[0], "path", b""): file for file in files}


def recover(
    rig: Rig, segments: list[Segment], butype: bytes, env: tuple[Pval, ...], names: tuple[RecoverName, ...]
) -> list[str]:
    """A recover that begins with the last cartridge; returns those that were asked for."""
    clients = {rig.data, rig.tape}
    rig.changer.change(rig.tape, segments[-1].barcode, TapeMode.READ)
    address = rig.connect(MoverMode.WRITE, segments[-1][1:])
    rig.data.ok(DataStartRecoverRequest(env, names, butype, address))
    asked = []
    kinds = (NotifyDataReadPost, NotifyMoverPausedPost, NotifyDataHaltedPost)
    while not isinstance(post := next_post(clients, *kinds), NotifyDataHaltedPost):
        if isinstance(post, NotifyDataReadPost):
            rig.tape.ok(MoverReadRequest(post.offset, post.length))
            continue
        assert isinstance(post, NotifyMoverPausedPost)
        assert post.reason == MoverPauseReason.SEEK
        (holder,) = [each for each in segments if each.offset <= post.seek_position < each.end]
        asked.append(holder.barcode)
        rig.changer.change(rig.tape, holder.barcode, TapeMode.READ)
        rig.tape.ok(MoverSetWindowRequest(*holder[1:]))
        rig.tape.ok(MoverContinueRequest())
    assert post.reason == DataHaltReason.SUCCESSFUL, rig.data.log()
    halted = next_post({rig.tape}, NotifyMoverHaltedPost)
    assert isinstance(halted, NotifyMoverHaltedPost)
    assert halted.reason == MoverHaltReason.CONNECT_CLOSED
    return asked


@pytest.mark.parametrize(
    ("version", "way", "butype"),
    [(version, way, b"dump") for version in (2, 3, 4) for way in ("local", "three-way")]
    + [(2, "three-way", b"tar"), (3, "local", b"tar"), (4, "three-way", b"tar")],
)
def test_files_on_two_cartridges(
    version: int, way: str, butype: bytes, make_server: MakeServer, login: Login, shm: Path
) -> None:
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=200, directories=5)
    make_large_file(source / "large", size=2_500_000)
    (source / "zz").mkdir()
    (source / "zz" / "last").write_bytes(b"last")
    target.mkdir()
    with rig(version, way, make_server, login) as it:
        segments = back_up(it, source, butype, HIST="f", DIRECT="y")
        assert len(segments) == 2
        found = history(it.data)
        several = sorted(found, key=lambda path: found[path].fh_info)
        files = [path for path in several if (source / os.fsdecode(path[1:])).is_file()]
        chosen = [files[0], files[len(files) // 2], b"/large", files[-1]]
        names = tuple(
            RecoverName(
                path,
                os.fsencode(target) + (b"" if version == 3 else path),
                b"",
                b"",
                found[path].node,
                found[path].fh_info,
            )
            for path in chosen
        )
        env = pairs(FILESYSTEM=str(source), DIRECT="y", MOVER_STREAM_BYTES=str(segments[-1].end))
        asked = recover(it, segments, butype, env, names)
        read = data_state(it.data).bytes_processed
        it.stop()
    for path in chosen:
        name = os.fsdecode(path[1:])
        assert (target / name).read_bytes() == (source / name).read_bytes()
        assert (target / name).stat().st_mtime_ns == (source / name).stat().st_mtime_ns
    assert asked[0] == segments[0].barcode
    assert asked[-1] == segments[-1].barcode
    assert read > 2_500_000


@pytest.mark.parametrize(
    ("version", "way", "butype", "window"),
    [
        (4, "local", b"dump", None),
        (4, "three-way", b"dump", 90 * RECORD_SIZE),
        (3, "local", b"tar", 90 * RECORD_SIZE),
        (2, "three-way", b"dump", 90 * RECORD_SIZE),
    ],
)
def test_five_cartridges(
    version: int, way: str, butype: bytes, window: int | None, make_server: MakeServer, login: Login, shm: Path
) -> None:
    """A backup by early warning or by window, all of it back, and single files: across every change of cartridges."""
    source, target, single = shm / "source", shm / "target", shm / "single"
    make_small_files(source, files=50, directories=2)
    for number in range(5):
        make_large_file(source / f"large{number}", size=1_700_000)
    single.mkdir()
    with rig(version, way, make_server, login, cartridges=5) as it:
        segments = back_up(it, source, butype, window, HIST="f", DIRECT="y")
        assert len(segments) == 5
        found = history(it.data)
        assert recover_all(it, segments, source, target, butype) == [each.offset for each in segments[1:]]
        assert compare_trees(source, target).differences == []
        large = sorted((path for path in found if b"large" in path), key=lambda path: found[path].fh_info)
        names = tuple(
            RecoverName(
                path, os.fsencode(single) + (b"" if version == 3 else path), b"", b"", found[path].node,
                found[path].fh_info,
            )
            for path in large
        )  # fmt: skip
        env = pairs(FILESYSTEM=str(source), DIRECT="y", MOVER_STREAM_BYTES=str(segments[-1].end))
        asked = recover(it, segments, butype, env, names)
        it.stop()
    assert len(large) == 5
    for path in large:
        name = os.fsdecode(path[1:])
        assert (single / name).read_bytes() == (source / name).read_bytes()
    barcodes = [each.barcode for each in segments]
    assert asked[-5:] == barcodes  # each in its turn, whatever was looked at before
