"""A peer that is alive is never given up, however long it does not read."""

import socket
import time

import pytest

from mover.workers.peer import is_gone, set_keepalive

TIMEOUT_S = 1.0


@pytest.mark.slow
def test_a_peer_that_does_not_read_is_not_gone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        set_keepalive(ours, TIMEOUT_S)
        ours.setblocking(False)
        until = time.monotonic() + 3 * TIMEOUT_S
        sent = 0
        while time.monotonic() < until:
            try:
                sent += ours.send(bytes(65_536))
            except BlockingIOError:
                assert not is_gone(ours, TIMEOUT_S)
                time.sleep(0.05)  # the time that passes is what is tested
        received = 0
        ours.shutdown(socket.SHUT_WR)
        while chunk := theirs.recv(1 << 20):
            received += len(chunk)
        assert received == sent


def test_a_silent_peer_is_not_gone_while_nothing_is_in_flight() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0],
    ):
        assert not is_gone(ours, 0.0)
