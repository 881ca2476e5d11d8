"""Who may take part in a data connection, and listeners within the port range."""

import socket

import pytest
import trio

from mover.config import Lif, PortRange
from mover.control import sockets


def allow_list(*allow: str, address: str = "127.0.0.1") -> sockets.AllowList:
    return sockets.AllowList(allow, [Lif(name="a", address=address)])


@pytest.mark.parametrize(
    ("allow", "address", "allowed"),
    [
        (["127.0.0.0/8"], "127.1.2.3", True),
        (["127.0.0.0/8"], "128.0.0.1", False),
        (["10.0.0.0/8", "192.0.2.7/32"], "192.0.2.7", True),
        (["10.0.0.0/8"], "::ffff:10.1.1.1", True),
        (["::1/128"], "::1", True),
        (["::1/128"], "127.0.0.1", False),
        ([], "127.0.0.1", False),
        (["lan"], "127.0.0.1", True),  # the network that the LIF on loopback stands in
        (["lan"], "203.0.113.1", False),
    ],
)
def test_the_allow_list(allow: list[str], address: str, allowed: bool) -> None:
    assert allow_list(*allow).allows(address) is allowed


def test_numbers_and_texts_of_addresses() -> None:
    assert sockets.ip_number("192.0.2.1") == 0xC0000201
    assert sockets.ip_text(0xC0000201) == "192.0.2.1"


async def test_a_listener_takes_a_free_port_of_the_range() -> None:
    with trio.fail_after(5), trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await sockets.open_data_listener("127.0.0.1", port, port)
        with await sockets.open_data_listener("127.0.0.1", *PortRange(0, 0)) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"
            with await sockets.connect_data("127.0.0.1", listener.getsockname()[1], 5) as connected:
                assert connected.getpeername() == listener.getsockname()


async def test_a_connection_that_is_refused_says_so() -> None:
    with trio.fail_after(5):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await sockets.connect_data("127.0.0.1", port, 5)


async def test_a_port_that_connects_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, and the kernel chooses the very port that we connect to: one time in 28,000."""

    def bound(family: int, kind: int) -> trio.socket.SocketType:
        return trio.socket.from_stdlib_socket(same_port)

    with trio.fail_after(5), socket.socket() as same_port:
        same_port.bind(("127.0.0.1", 0))
        port = same_port.getsockname()[1]
        monkeypatch.setattr(trio.socket, "socket", bound)
        with pytest.raises(ConnectionRefusedError):
            await sockets.connect_data("127.0.0.1", port, 5)
