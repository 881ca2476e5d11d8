"""What systemd is told, and when the watchdog's reports come."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mover.control import systemd

DEADLINE_S = 30


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_several_assignments_are_one_datagram(manager: socket.socket) -> None:
    systemd.notify("READY=1", "STATUS=well")
    assert manager.recv(100) == b"READY=1\nSTATUS=well"


def test_an_abstract_address_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel chooses an abstract one
        sock.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + sock.getsockname()[1:].decode())
        systemd.notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_who_was_not_started_by_systemd_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")


def test_a_manager_that_has_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify("READY=1")


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    for _ in range(10_000):  # more than its queue takes
        systemd.notify("WATCHDOG=1")
    assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("text", "owner", "expected"),
    [
        ("30000000", None, 30.0),
        ("30000000", "ours", 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("-5", None, None),
        ("soon", None, None),
    ],
)
def test_the_interval_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, owner: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.setattr("os.getpid", lambda: 4711)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if owner is not None:
        monkeypatch.setenv("WATCHDOG_PID", "4711" if owner == "ours" else owner)
    assert systemd.watchdog_interval_s() == expected


async def test_a_turning_loop_reports_three_times_in_an_interval(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    said: list[float] = []
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(systemd, "notify", lambda *_: said.append(trio.current_time()))
    start = trio.current_time()
    with trio.move_on_after(59):
        await systemd.feed_watchdog()
    assert [each - start for each in said] == [0, 10, 20, 30, 40, 50]


async def test_without_a_watchdog_nothing_is_reported(monkeypatch: pytest.MonkeyPatch, manager: socket.socket) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with trio.fail_after(DEADLINE_S):
        await systemd.feed_watchdog()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
