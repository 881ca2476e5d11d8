"""The control socket's framing: length-prefixed msgpack with descriptors beside it, bounded.

Both ends use :func:`pack` and :class:`Unpacker`; a worker uses the blocking :class:`Channel` on top, control its
own trio version (``mover/control``).
"""

import array
import os
import select
import socket
from collections import deque
from typing import Final

import msgspec

from mover.workers.messages import (
    DESCRIPTORS_MAX,
    MESSAGE_BYTES_MAX,
    FromWorker,
    ToWorker,
    encoder,
    to_worker_decoder,
)

_LENGTH: Final = 4
_CHUNK: Final = 65_536


class ChannelBroken(Exception):  # noqa: N818 - an end of the conversation
    """The other side is gone, or what came cannot be a message of ours."""


def pack(message: ToWorker | FromWorker) -> bytes:
    """A message as bytes on the control socket.

    Raises:
        ValueError: longer than MESSAGE_BYTES_MAX.
    """
    try:
        body = encoder.encode(message)
    except UnicodeEncodeError:  # a text quotes a name that is not UTF-8
        body = encoder.encode(_with_escapes(message))
    if len(body) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{type(message).__name__} of {len(body)} bytes, at most {MESSAGE_BYTES_MAX}")
    return len(body).to_bytes(_LENGTH, "big") + body


def _with_escapes(message: ToWorker | FromWorker) -> ToWorker | FromWorker:
    texts = {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for name in message.__struct_fields__
        if isinstance(value := getattr(message, name), str)
    }
    return msgspec.structs.replace(message, **texts)


class Unpacker:
    """Cuts a byte stream into message bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_ready(self) -> bool:
        """Whether a whole message lies here already."""
        length = int.from_bytes(self._buffer[:_LENGTH], "big")
        return len(self._buffer) >= _LENGTH and len(self._buffer) >= _LENGTH + length

    def next_body(self) -> bytes | None:
        """The next whole body, or None when more bytes are needed.

        Raises:
            ChannelBroken: a length over the bound.
        """
        if len(self._buffer) < _LENGTH:
            return None
        length = int.from_bytes(self._buffer[:_LENGTH], "big")
        if length > MESSAGE_BYTES_MAX:
            raise ChannelBroken(f"a worker message of {length} bytes, at most {MESSAGE_BYTES_MAX}")
        end = _LENGTH + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH:end])
        del self._buffer[:end]
        return body


def receive_descriptors(ancillary: list[tuple[int, int, bytes]], flags: int) -> list[int]:
    """The descriptors that came with a recvmsg, made not inheritable.

    Raises:
        ChannelBroken: the kernel had to cut the list (MSG_CTRUNC); what did arrive is closed.
    """
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) // numbers.itemsize * numbers.itemsize])
            descriptors += numbers
    for fd in descriptors:
        os.set_inheritable(fd, False)
    if flags & socket.MSG_CTRUNC:
        for fd in descriptors:
            os.close(fd)
        raise ChannelBroken("descriptors were cut off a worker message")
    return descriptors


def rights(descriptors: list[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that sends descriptors."""
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]


ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)


class Channel:
    """A worker's end of its control socket: blocking, one thread.

    Received descriptors queue up in order of arrival; the handler of a message takes as many as it names.
    """

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(True)
        self._unpacker = Unpacker()
        self._descriptors: deque[int] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: FromWorker) -> None:
        """Send one message, waiting for room; control always reads.

        Raises:
            ChannelBroken: control is gone.
        """
        try:
            self.socket.sendall(pack(message))
        except OSError as error:
            raise ChannelBroken(f"control is gone: {error.strerror}") from error

    def receive(self) -> ToWorker:
        """The next message, waiting for it.

        Raises:
            ChannelBroken: control closed its end, or sent what is not a message.
        """
        while True:
            body = self._unpacker.next_body()
            if body is not None:
                try:
                    message: ToWorker = to_worker_decoder.decode(body)
                except msgspec.DecodeError as error:
                    raise ChannelBroken(f"control sent no message of ours: {error}") from error
                return message
            try:
                data, ancillary, flags, _ = self.socket.recvmsg(_CHUNK, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:  # a reset: control closed with our words unread
                raise ChannelBroken(f"control is gone: {error.strerror}") from error
            self._descriptors += receive_descriptors(ancillary, flags)
            if not data:
                raise ChannelBroken("control closed the control socket")
            self._unpacker.feed(data)

    def pending(self) -> bool:
        """Whether receive would find at least the beginning of a message without waiting."""
        if self._unpacker.next_ready():
            return True
        poller = select.poll()
        poller.register(self.socket.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def take_descriptors(self, count: int) -> list[int]:
        """The next ``count`` received descriptors, owned by the caller.

        Raises:
            ChannelBroken: fewer came.
        """
        if len(self._descriptors) < count:
            raise ChannelBroken(f"{len(self._descriptors)} descriptors came with a message that needs {count}")
        return [self._descriptors.popleft() for _ in range(count)]
