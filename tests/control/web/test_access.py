"""Who may read: tokens in both forms, names of hosts, and what a wrong one costs."""

import base64

import pytest
import trio
import trio.testing

from mover.config import Secret
from mover.control.web.access import WRONG_TOKEN_S, Access, brought, is_own_name
from mover.control.web.http_message import HttpRequest

TOKEN = "a token: with a colon and ü"


def request(**headers: str) -> HttpRequest:
    return HttpRequest("GET", "/metrics", headers, "192.0.2.1")


def wire(text: str) -> str:
    """As a header arrives: bytes of UTF-8, one character each."""
    return text.encode().decode("latin-1")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


async def status(access: Access, **headers: str) -> int:
    refused = await access.refuse(request(**headers))
    return 200 if refused is None else refused.status


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (wire(f"Bearer {TOKEN}"), TOKEN),
        (wire(f"bearer  {TOKEN} "), TOKEN),
        (basic(f"anybody:{TOKEN}"), TOKEN),
        (basic(f":{TOKEN}"), TOKEN),
        (basic("no colon"), None),
        ("Basic %%%", None),
        ("Basic /w==", None),
        ("Bearer \xff", None),
        ("Digest a", None),
        ("", None),
    ],
)
def test_what_a_header_brings(authorization: str, token: str | None) -> None:
    found = brought(authorization)
    assert (found and found.reveal()) == token


async def test_with_a_token_each_request_brings_it(autojump_clock: trio.testing.MockClock) -> None:
    access = Access(loopback=False, token=lambda: Secret(TOKEN))
    assert await status(access, host="any.example") == 401
    assert await status(access, host="any.example", authorization=wire(f"Bearer {TOKEN}")) == 200
    assert await status(access, authorization=basic(f"prometheus:{TOKEN}")) == 200
    before = trio.current_time()
    assert await status(access, authorization="Bearer guessed") == 401
    assert await status(access, authorization="Bearer ") == 401
    assert trio.current_time() == before + 2 * WRONG_TOKEN_S


async def test_a_browser_is_asked_for_it() -> None:
    refused = await Access(loopback=True, token=lambda: Secret(TOKEN)).refuse(request(host="localhost"))
    assert refused is not None
    assert refused.headers == (("WWW-Authenticate", 'Basic realm="mover", charset="UTF-8"'),)
    assert TOKEN.encode() not in refused.body


async def test_no_token_off_loopback_is_nothing_for_anybody() -> None:
    access = Access(loopback=False, token=lambda: Secret(""))
    assert await status(access, host="127.0.0.1:9110", authorization="Bearer ") == 403


async def test_on_loopback_foreign_names_are_refused() -> None:
    access = Access(loopback=True, token=lambda: Secret(""))
    assert await status(access, host="127.0.0.1:9110") == 200
    assert await status(access, host="rebound.example:9110") == 421
    assert await status(access) == 421


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("127.0.0.1:9110", True), ("[::1]:9110", True), ("[::1]", True), ("localhost", True),
        ("LOCALHOST:1", True), ("", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example:9110", False),
        ("evil.example:9110", False), ("127.0.0.1:9110.evil.example", False), ("[::1].evil.example", False),
        ("127.0.0.1@evil.example", False), ("::1", False), ("localhost:\xb2", False),
    ],
)  # fmt: skip
def test_own_names(host: str, own: bool) -> None:
    assert is_own_name(host) is own
