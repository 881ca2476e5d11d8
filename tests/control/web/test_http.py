"""The HTTP server on loopback: requests good and bad, peers that are slow, many, or gone."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
import trio
import trio.testing

from mover.admin.messages import Failed
from mover.admin.statistics import StatisticsReply
from mover.config import Secret
from mover.control.sockets import open_listener
from mover.control.web import Web, events, http_connection, http_server
from mover.control.web.http_connection import HttpConnection
from mover.control.web.http_message import Answer, HttpRequest
from tests.support.moments import HOSTILE, hostile, moment

DEADLINE_S = 30.0
TOKEN = "0123456789abcdef"

Look = Callable[[], Awaitable[StatisticsReply | Failed]]


async def look() -> StatisticsReply:
    return hostile()


@asynccontextmanager
async def web(look: Look = look, token: str | Callable[[], str] = "") -> AsyncIterator[Web]:
    with trio.fail_after(DEADLINE_S):
        listener = await open_listener("127.0.0.1", 0)
        served = Web(listener, look, look, lambda: Secret(token if isinstance(token, str) else token()))
        with listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.serve)
                yield served
                nursery.cancel_scope.cancel()


async def connect(served: Web) -> trio.SocketStream:
    host, _, port = served.address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def everything(stream: trio.SocketStream) -> bytes:
    received = b""
    async for chunk in stream:
        received += chunk
    return received


async def ask(served: Web, path: str = "/", method: str = "GET", *lines: str) -> tuple[int, dict[str, str], bytes]:
    async with await connect(served) as stream:
        head = [f"{method} {path} HTTP/1.1", f"Host: {served.address}", "Connection: close", *lines, "", ""]
        await stream.send_all("\r\n".join(head).encode())
        return taken_apart(await everything(stream))


def taken_apart(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, body


async def test_what_there_is() -> None:
    async with web() as served:
        status, headers, body = await ask(served, "/metrics?a=b")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert b"\nmover_sessions 4.0\n" in body
        status, headers, body = await ask(served)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert body.startswith(b"<!doctype html>")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert headers["date"].endswith(" GMT")
        status, _, body = await ask(served, "/none")
        assert (status, body) == (404, b"there are /, /events, /metrics\n")


async def test_a_head_has_everything_but_the_body() -> None:
    async with web() as served:
        _, _, body = await ask(served)
        status, headers, nothing = await ask(served, "/", "HEAD")
        assert (status, int(headers["content-length"]), nothing) == (200, len(body), b"")
        status, headers, nothing = await ask(served, "/events", "HEAD")
        assert (status, headers["content-type"], nothing) == (200, "text/event-stream", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(method: str) -> None:
    async with web() as served:
        status, headers, _ = await ask(served, "/metrics", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 65536, 431),
        (b"GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n", 421),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a handshake of TLS\r\n\r\n", 400),
    ],
)
async def test_broken_requests(request_: bytes, status: int) -> None:
    async with web() as served, await connect(served) as stream:
        await stream.send_all(request_)
        found, _, _ = taken_apart(await everything(stream))
        assert found == status


async def test_a_connection_serves_many_requests_cut_anywhere() -> None:
    async with web() as served, await connect(served) as stream:
        request = f"GET /none HTTP/1.1\r\nHost: {served.address}\r\n\r\n".encode()
        last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        for byte in request * 2:
            await stream.send_all(bytes([byte]))
        await stream.send_all(request * 3 + last)
        assert (await everything(stream)).count(b"HTTP/1.1 404") == 6


async def test_a_token_is_asked_for() -> None:
    async with web(token=TOKEN) as served:
        assert (await ask(served, "/metrics"))[0] == 401
        assert (await ask(served, "/events"))[0] == 401
        assert (await ask(served, "/metrics", "GET", f"Authorization: Bearer {TOKEN}"))[0] == 200


async def test_where_statistics_are_off_metrics_say_so() -> None:
    async def off() -> Failed:
        return Failed("refused", "statistics are off")

    async with web(off) as served:
        assert (await ask(served, "/metrics"))[::2] == (503, b"statistics are off\n")


async def test_an_error_of_ours_costs_its_connection_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [True]

    async def sometimes() -> StatisticsReply:
        if failing.pop():
            raise RuntimeError("planted")
        return moment()

    with structlog.testing.capture_logs() as logged:
        async with web(sometimes) as served, await connect(served) as stream:
            await stream.send_all(f"GET /metrics HTTP/1.1\r\nHost: {served.address}\r\n\r\n".encode())
            assert await everything(stream) == b""
            failing.append(False)
            assert (await ask(served, "/metrics"))[0] == 200
    assert [each["event"] for each in logged if each["log_level"] == "error"] == ["HTTP request failed"]


# --- events


class Reader:
    """Reads /events."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def next(self) -> bytes:
        """The next event, without its chunk's frame."""
        while b"\n\n\r\n" not in self._received:
            chunk = await self.stream.receive_some()
            assert chunk, self._received
            self._received += chunk
        event, _, self._received = self._received.partition(b"\n\n\r\n")
        return event


async def follow(served: Web, *lines: str) -> Reader:
    stream = await connect(served)
    head = ["GET /events HTTP/1.1", f"Host: {served.address}", *lines, "", ""]
    await stream.send_all("\r\n".join(head).encode())
    return Reader(stream)


async def test_events_come_to_everybody_until_he_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVERY_S", 0.01)
    looks = 0

    async def counted() -> StatisticsReply:
        nonlocal looks
        looks += 1
        return moment(uptime_seconds=float(looks))

    async with web(counted) as served:
        assert looks == 0
        first, second = await follow(served), await follow(served)
        begin = await first.next()
        assert b"\r\nretry: 2000\n\nevent: moment\ndata: {" in begin
        for _ in range(3):
            event = await first.next()
            assert event.partition(b"\r\n")[2].startswith(b'event: moment\ndata: {"type":"statistics-reply",')
        assert b'"uptime-seconds":' in await second.next()
        await first.stream.aclose()
        await second.next()
        await second.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.2)  # no moment is made any more: it would end the quiet
        before = looks
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert looks == before


async def test_without_a_token_files_at_hand_are_nobodys_business() -> None:
    async with web() as served:
        reader = await follow(served)
        assert b'"at":""' in await reader.next()
        await reader.stream.aclose()
    async with web(token=TOKEN) as served:
        reader = await follow(served, f"Authorization: Bearer {TOKEN}")
        event = await reader.next()
        assert b'"at":"/v/<img' in event
        assert HOSTILE.encode() not in event  # JSON: no control character is in the stream of events
        await reader.stream.aclose()


@pytest.mark.parametrize(("before", "after"), [("", TOKEN), (TOKEN, "another"), (TOKEN, "")])
async def test_another_token_sends_readers_away(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    monkeypatch.setattr(events, "EVERY_S", 0.01)
    token = before
    async with web(token=lambda: token) as served:
        reader = await follow(served, f"Authorization: Bearer {before}")
        received = await reader.next()
        token = after
        async with reader.stream:
            received += await everything(reader.stream)
        assert received.endswith(b"0\r\n\r\n")  # the end was told, it is no lost connection
        assert (b'"at":"/v/<img' in received) == bool(before)
        again = await follow(served, f"Authorization: Bearer {after}")
        assert (b'"at":"/v/<img' in await again.next()) == bool(after)
        await again.stream.aclose()


async def test_failures_are_events_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVERY_S", 0.01)

    async def off() -> Failed:
        return Failed("refused", "statistics are off")

    async def broken() -> StatisticsReply:
        raise RuntimeError("planted")

    async with web(off) as served:
        reader = await follow(served)
        data = b'data: {"type":"failed","code":"refused","text":"statistics are off"}'
        assert b"event: failed\n" + data in await reader.next()
        await reader.stream.aclose()
    async with web(broken) as served:
        reader = await follow(served)
        for _ in range(2):
            assert b'"text":"RuntimeError"' in await reader.next()
        await reader.stream.aclose()


async def test_readers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READERS_MAX", 1)
    async with web() as served:
        reader = await follow(served)
        await reader.next()
        assert (await ask(served, "/events"))[::2] == (503, b"too many look on\n")
        await reader.stream.aclose()


async def test_a_reader_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READERS_MAX", 1)
    monkeypatch.setattr(events, "EVERY_S", 0.001)
    monkeypatch.setattr(http_connection, "SEND_S", 0.1)
    async with web() as served:
        reader = await follow(served)
        await reader.next()
        while (await ask(served, "/events", "HEAD"))[0] == 503:  # noqa: ASYNC110 - asked over the wire
            await trio.sleep(0.1)
        await reader.stream.aclose()


async def test_an_address_of_ipv6_stands_in_brackets() -> None:
    try:
        listener = await open_listener("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        served = Web(listener, look, look, lambda: Secret(""))
    assert served.address == f"[::1]:{served.address.rpartition(':')[2]}"


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS_OF_ONE_MAX", 2)
    async with web() as served:
        reader = await follow(served)
        await reader.next()
        async with await connect(served) as second, await connect(served) as third:
            assert await everything(third) == b""
            await second.send_all(f"GET /none HTTP/1.0\r\nHost: {served.address}\r\n\r\n".encode())
            assert b" 404 " in await everything(second)
        await reader.stream.aclose()


class Arrivals:
    """A listener at which peers of these addresses arrive.

    Attributes:
        streams: theirs.
    """

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.streams: list[trio.SocketStream] = []

    async def accept(self) -> tuple[trio.socket.SocketType, tuple[str, int, int, int]]:
        if not self._addresses:
            await trio.sleep_forever()
        ours, theirs = trio.socket.socketpair()
        self.streams.append(trio.SocketStream(theirs))
        return ours, (self._addresses.pop(0), 1024, 0, 0)


async def test_a_network_of_ipv6_has_no_more_than_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS_OF_ONE_MAX", 1)
    listener = Arrivals("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")

    async def respond(request: HttpRequest) -> Answer:
        return Answer(204)

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            server = http_server.HttpServer(listener, respond)  # type: ignore[arg-type]  # only accept() is needed
            nursery.start_soon(server.serve)
            while len(listener.streams) < 3:  # noqa: ASYNC110 - the server's pace is its own
                await trio.sleep(0.001)
            answers = []
            for stream in listener.streams:
                async with stream:
                    with suppress(trio.BrokenResourceError):  # it is closed already
                        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    answers.append((await everything(stream))[:12])
            assert answers == [b"HTTP/1.1 204", b"", b"HTTP/1.1 204"]
            nursery.cancel_scope.cancel()


# --- time; the peers' sockets are ours, the clock is not


@asynccontextmanager
async def pair(body: bytes = b"") -> AsyncIterator[tuple[trio.SocketStream, trio.Event]]:
    """A peer's socket, and what is set when its connection has ended."""
    ours, theirs = trio.socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ended = trio.Event()

    async def respond(request: HttpRequest) -> Answer:
        return Answer(200, body)

    async def serve() -> None:
        await HttpConnection(trio.SocketStream(ours), "peer", respond).serve()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with trio.SocketStream(theirs) as stream:
            yield stream, ended
        nursery.cancel_scope.cancel()


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_who_says_nothing_or_half_a_request_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    for said in (b"", REQUEST[:20]):
        async with pair() as (stream, ended):
            before = trio.current_time()
            if said:
                await stream.send_all(said)
            await ended.wait()
            assert trio.current_time() - before == http_connection.REQUEST_S + http_connection.LINGER_S


async def test_a_request_by_drips_has_no_more_time(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (stream, ended):
        before = trio.current_time()
        sent = 0
        with suppress(trio.BrokenResourceError):
            for byte in REQUEST:
                await stream.send_all(bytes([byte]))
                await trio.sleep(3)
                sent += 1
        assert sent < len(REQUEST)
        assert ended.is_set()
        assert trio.current_time() - before < 3 * http_connection.REQUEST_S


async def test_an_idle_connection_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (stream, ended):
        await stream.send_all(REQUEST)
        before = trio.current_time()
        await ended.wait()
        waited = http_connection.PACE_S + http_connection.IDLE_S + http_connection.LINGER_S
        assert trio.current_time() - before == pytest.approx(waited)


async def test_who_does_not_read_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(b"x" * (8 << 20)) as (stream, ended):
        before = trio.current_time()
        await stream.send_all(REQUEST)
        await ended.wait()
        assert trio.current_time() - before == http_connection.SEND_S
