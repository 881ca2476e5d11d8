"""The commands' side of the admin socket: blocking, one connection for a command's requests."""

import socket
from types import TracebackType
from typing import Final, Self

from mover.admin.messages import (
    REPLY_BYTES_MAX,
    Failed,
    MessageError,
    Reply,
    Request,
    decode_reply,
    encode_request,
)

REPLY_TIMEOUT_S: Final = 60.0  # `kill` waits for workers to end, which take up to the grace time


class NoControlProcessError(Exception):
    """Nobody answers at the admin socket, or not as a control process does."""


class RefusedError(Exception):
    """The control process answered Failed; ``code`` is its code, the text its text."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.text)
        self.code = failed.code


class AdminClient:
    """A connection to the control process.

    Raises:
        NoControlProcessError: from the constructor and from ask().
    """

    def __init__(self, path: str, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NoControlProcessError(f"no control process at {path}: {error.strerror or error}") from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def ask(self, request: Request) -> Reply:
        """Send a request and wait for its reply.

        Raises:
            RefusedError: the reply is Failed.
            NoControlProcessError: there is no reply, or none that can be read.
        """
        try:
            self._socket.sendall(encode_request(request))
            line = self._lines.readline(REPLY_BYTES_MAX + 1)
        except OSError as error:
            raise NoControlProcessError(
                f"the control process at {self._path} does not answer: {error.strerror or error}"
            ) from None
        if not line.endswith(b"\n"):
            raise NoControlProcessError(f"the control process at {self._path} ended the connection")
        try:
            reply = decode_reply(line)
        except MessageError as error:
            raise NoControlProcessError(f"{self._path}: {error}") from None
        if isinstance(reply, Failed):
            raise RefusedError(reply)
        return reply
