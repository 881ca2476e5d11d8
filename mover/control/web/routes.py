"""What there is at node.metrics: `/` the status page, `/events` its moments, `/metrics` for Prometheus."""

import ipaddress
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import trio

from mover.admin.messages import Failed
from mover.config import Secret
from mover.control.web.access import Access
from mover.control.web.events import Events, Look
from mover.control.web.http_message import Answer, EventStream, HttpRequest, refusal
from mover.control.web.http_server import HttpServer
from mover.control.web.metrics import Exposition
from mover.control.web.page import Page
from mover.control.web.shared_look import SharedLook

Route = Callable[[HttpRequest], Awaitable[Answer | EventStream]]


class Web:
    """Everything that is served at one address.

    Attributes:
        address: host and port, as a URL has them.

    Args:
        listener: where it is; the caller closes it.
        look: gives what there is now; a Failed where statistics are off.
        look_back: the same with the samples of the last minutes.
        token: gives the token as it is configured now; Secret("") = none.
    """

    def __init__(
        self, listener: trio.socket.SocketType, look: Look, look_back: Look, token: Callable[[], Secret]
    ) -> None:
        host, port = listener.getsockname()[:2]
        self.address: Final = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._look = SharedLook(look)
        self._access = Access(loopback=ipaddress.ip_address(host).is_loopback, token=token)
        self._page = Page()
        self._exposition = Exposition()
        self._events = Events(look_back, self._access)
        self._server = HttpServer(listener, self._respond)
        self._routes: dict[str, Route] = {
            "/": self._show_page,
            "/events": self._follow,
            "/metrics": self._expose,
        }

    async def serve(self) -> None:
        """Answer until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._events.make)
            nursery.start_soon(self._server.serve)

    async def _respond(self, request: HttpRequest) -> Answer | EventStream:
        refused = await self._access.refuse(request)
        if refused is not None:
            return refused
        route = self._routes.get(request.path)
        if route is None:
            return refusal(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._routes)}")
        return await route(request)

    async def _show_page(self, request: HttpRequest) -> Answer:
        return self._page.answer

    async def _follow(self, request: HttpRequest) -> Answer | EventStream:
        if self._events.full:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many look on", ("Retry-After", "10"))
        return EventStream(self._events.follow)

    async def _expose(self, request: HttpRequest) -> Answer:
        reply = await self._look()
        if isinstance(reply, Failed):
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, reply.text)
        body, content_type = self._exposition.render(reply, request.headers.get("accept", ""))
        return Answer(HTTPStatus.OK, body, content_type)
