"""What spares rehearse: requests that are refused, and that leave nothing behind."""

import os
import socket
import threading
from collections.abc import Callable

import pytest

from mover.data import __main__ as data
from mover.data.rights import need
from mover.tape import __main__ as tape
from mover.tape.worker import TapeWorker
from mover.workers.channel import Channel, Unpacker, pack, rights
from mover.workers.confine import Grant
from mover.workers.frame import Handler, Rehearsal, _rehearse
from mover.workers.messages import Refused, ToWorker, from_worker_decoder


def data_worker() -> tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]:
    return data.handle, need, data.rehearsal


def tape_worker() -> tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]:
    return TapeWorker().handle, tape.need, tape.rehearsal


@pytest.mark.parametrize("worker", [data_worker, tape_worker])
def test_a_rehearsal_is_refused_and_leaves_nothing(
    worker: Callable[[], tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]],
) -> None:
    handler, needs, rehearsal = worker()
    before, threads = os.listdir("/proc/self/fd"), set(threading.enumerate())
    _rehearse(handler, needs, rehearsal)
    message, descriptors = rehearsal()
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours, channel.socket:
        ours.sendmsg([pack(message)], rights(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        handler(channel, channel.receive())
        unpacker = Unpacker()
        unpacker.feed(ours.recv(65_536))
        body = unpacker.next_body()
        assert body is not None
        assert isinstance(from_worker_decoder.decode(body), Refused)
    assert os.listdir("/proc/self/fd") == before
    assert set(threading.enumerate()) <= threads
