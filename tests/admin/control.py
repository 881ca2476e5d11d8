"""A control process that is none: a thread that answers on a real unix socket from a script."""

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mover.admin.messages import Reply, Request, decode_request, encode_reply

Answer = Callable[[Request], Reply | bytes]


class FakeControl:
    """Serves ``path`` until the with-block ends; ``requests`` are those received. Bytes are sent as they are."""

    def __init__(self, path: str, answer: Answer) -> None:
        self.path = path
        self.requests: list[Request] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the with-block ended
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    request = decode_request(line)
                    self.requests.append(request)
                    reply = self._answer(request)
                    connection.sendall(reply if isinstance(reply, bytes) else encode_reply(reply))
                    if reply == b"":
                        break
