"""Who may read by HTTP: whoever has the token; without one, programs of this host that ask for it by address.

Theory of operation. Where a token is configured, each request brings it: as a bearer token, or as the password of
HTTP's basic authentication, which browsers ask people for and keep. It never stands in a URL, where histories and logs
would keep it. Without a token the listener is on loopback, where the browsers of the host's users are too: a foreign
site whose name its owner points to 127.0.0.1 would be of the same origin as we are (DNS rebinding). Its requests bear
its name as their host, so only addresses and localhost are taken. A rebound site knows no token: with one, any name
will do, which lets a proxy stand in front.
"""

import base64
import binascii
import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import structlog
import trio

from mover.config import Secret
from mover.control.web.http_message import Answer, HttpRequest, refusal

WRONG_TOKEN_S: Final = 1.0  # how long a wrong one waits for its answer
LOG_EVERY_S: Final = 10.0
_ASK: Final = ("WWW-Authenticate", 'Basic realm="mover", charset="UTF-8"')

log = structlog.get_logger()


class Access:
    """Judges requests.

    Args:
        loopback: whether the listener can be reached from this host only.
        token: gives the token as it is configured now; Secret("") = none.
    """

    def __init__(self, *, loopback: bool, token: Callable[[], Secret]) -> None:
        self._loopback = loopback
        self._token = token
        self._refused = 0
        self._log_from = 0.0

    @property
    def token(self) -> Secret:
        """That readers have now; Secret("") = whoever is on this host may read."""
        return self._token()

    async def refuse(self, request: HttpRequest) -> Answer | None:
        """Why the request is not answered; None = it is."""
        token = self._token()
        if not token:
            if not self._loopback:  # the token went from a configuration that was read again
                return refusal(HTTPStatus.FORBIDDEN, "node.metrics_token_file is not configured")
            if not is_own_name(request.headers.get("host", "")):
                return refusal(
                    HTTPStatus.MISDIRECTED_REQUEST, "ask by address or as localhost: this is no name of this server"
                )
            return None
        authorization = request.headers.get("authorization")
        if authorization is None:
            return refusal(HTTPStatus.UNAUTHORIZED, "a token is needed", _ASK)
        if brought(authorization) == token:
            return None
        self._note(request.peer)
        await trio.sleep(WRONG_TOKEN_S)
        return refusal(HTTPStatus.UNAUTHORIZED, "this is not the token", _ASK)

    def _note(self, peer: str) -> None:
        """A line now and then, however fast somebody guesses."""
        self._refused += 1
        now = trio.current_time()
        if now >= self._log_from:
            log.warning("wrong token of HTTP requests", peer=peer, refused=self._refused)
            self._log_from = now + LOG_EVERY_S


def brought(authorization: str) -> Secret | None:
    """The token in an Authorization header; None where there is none. Source: RFC 6750, 2.1; RFC 7617, 2."""
    scheme, _, value = authorization.strip().partition(" ")
    try:
        match scheme.lower():
            case "bearer":
                return Secret(value.strip().encode("latin-1").decode())
            case "basic":
                _, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
                return Secret(password) if colon else None
    except (binascii.Error, UnicodeError):
        return None
    return None


def is_own_name(host: str) -> bool:
    """Whether a Host header is an address or localhost, with a port or without."""
    name, bracket, rest = host.partition("]")
    if bracket:
        name = name.removeprefix("[")
    else:
        name, _, rest = host.partition(":")
    if rest.lstrip(":") and not (rest.lstrip(":").isascii() and rest.lstrip(":").isdigit()):
        return False
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
