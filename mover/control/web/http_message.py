"""Requests and answers of the HTTP server, as its layers hand them to each other."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

TEXT: Final = "text/plain; charset=utf-8"
METHODS: Final = ("GET", "HEAD")

Header = tuple[str, str]


class HttpRequest(NamedTuple):
    """A request whose body, if it has one, is not looked at.

    Attributes:
        path: without its query.
        headers: by their names in small letters.
        peer: the address it comes from.
    """

    method: str
    path: str
    headers: dict[str, str]
    peer: str


class Answer(NamedTuple):
    """An answer whose body is known."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: tuple[Header, ...] = ()


class EventStream(NamedTuple):
    """An answer that goes on until its reader leaves, or has to: server-sent events.

    Attributes:
        follow: for as long as one reader stays: what waits for the next piece and gives it; b"" = there is no more.
    """

    follow: Callable[[], AbstractContextManager[Callable[[], Awaitable[bytes]]]]


Respond = Callable[[HttpRequest], Awaitable[Answer | EventStream]]


def refusal(status: int, text: str, *headers: Header) -> Answer:
    """An answer that says in one line why there is no other."""
    return Answer(status, f"{text}\n".encode(), headers=headers)
