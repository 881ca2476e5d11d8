"""Worker messages on their socket: cut anywhere, bounded, descriptors beside them, and a worker's frame."""

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.workers.channel import Channel, ChannelBroken, Unpacker, pack, receive_descriptors, rights
from mover.workers.messages import MESSAGE_BYTES_MAX, Refused, ToWorker, from_worker_decoder, to_worker_decoder
from mover.workers.tape_messages import GetDriveState, MoverPosition, ReadStream, StartMover, WriteRecord

MESSAGES: list[ToWorker] = [
    GetDriveState(),
    ReadStream(offset=0, length=2**64 - 1),
    StartMover(
        mode=0,
        record_size=65536,
        window_offset=0,
        window_length=2**64 - 1,
        window_is_new=True,
        position=MoverPosition(bytes_moved=7),
        version=4,
    ),
    WriteRecord(length=3),
]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_any_cut_gives_the_same_messages(cuts: list[int]) -> None:
    stream = b"".join(map(pack, MESSAGES))
    unpacker, seen = Unpacker(), []
    for cut in [*cuts, len(stream)]:
        unpacker.feed(stream[:cut])
        stream = stream[cut:]
        while (body := unpacker.next_body()) is not None:
            seen.append(to_worker_decoder.decode(body))
    assert seen == MESSAGES


def test_a_text_that_quotes_a_name_which_is_not_utf8_has_escapes() -> None:
    unpacker = Unpacker()
    unpacker.feed(pack(Refused(9, os.fsdecode(b"/a\xff cannot be backed up"))))
    body = unpacker.next_body()
    assert body is not None
    assert from_worker_decoder.decode(body) == Refused(9, "/a\\xff cannot be backed up")


def test_a_length_over_the_bound_is_refused_before_it_is_buffered() -> None:
    unpacker = Unpacker()
    unpacker.feed((MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(ChannelBroken, match="at most"):
        unpacker.next_body()


def test_descriptors_arrive_closed_on_exec_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    first, second = os.pipe()
    with ours:
        ours.sendmsg([pack(GetDriveState())], rights([first, second]))
        assert channel.pending()
        assert channel.receive() == GetDriveState()
        assert not channel.pending()
        received = channel.take_descriptors(2)
        assert [os.stat(fd).st_ino for fd in received] == [os.stat(fd).st_ino for fd in (first, second)]
        assert not any(map(os.get_inheritable, received))
        with pytest.raises(ChannelBroken, match="needs 1"):
            channel.take_descriptors(1)
    for fd in (first, second, *received):
        os.close(fd)
    with pytest.raises(ChannelBroken, match="closed"):
        channel.receive()
    channel.socket.close()


def test_cut_descriptors_are_an_error() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    ancillary = rights([reader])
    with pytest.raises(ChannelBroken, match="cut off"):
        receive_descriptors(ancillary, socket.MSG_CTRUNC)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


@pytest.mark.parametrize("room", ["data", "tape", "relay"])
def test_a_worker_says_how_it_is_started_and_leaves_with_control(room: str) -> None:
    usage = subprocess.run(
        [sys.executable, "-I", "-m", f"mover.{room}"], capture_output=True, text=True, timeout=20, check=False
    )
    assert usage.returncode == 2
    assert "usage" in usage.stderr
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", f"mover.{room}", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    ours.close()
    assert process.wait(20) == 0


SLOW_MODULES = {
    "asyncio", "subprocess", "logging", "dataclasses", "pathlib", "multiprocessing", "trio", "psutil",
    "typing_extensions",
}  # fmt: skip


@pytest.mark.parametrize("room", ["data", "tape", "relay"])
def test_a_worker_imports_nothing_slow(room: str) -> None:
    code = f"import sys, runpy; sys.argv = ['worker']\ntry: runpy.run_module('mover.{room}', run_name='__main__')\n"
    code += "except SystemExit: pass\nprint(*(name for name, module in sys.modules.items() if module is not None))"
    bare = {"dataclasses", "pathlib"} & set(
        subprocess.check_output(
            [sys.executable, "-I", "-c", "import runpy, sys; print(*sys.modules)"], text=True
        ).split()
    )
    modules = subprocess.check_output(
        [sys.executable, "-I", "-c", code], text=True, stderr=subprocess.DEVNULL, timeout=20
    ).split()
    assert (SLOW_MODULES & set(modules)) - bare == set()
