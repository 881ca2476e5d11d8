"""A library's cartridges as a DMA uses them for one stream: which holds which part, and changing them in the drive."""

import socket
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from mover.admin.client import AdminClient
from mover.admin.messages import Done
from mover.admin.tapes import TapeCreate, TapeLoad, TapeUnload
from mover.ndmp.enums import TapeMode
from mover.ndmp.messages import Body, TapeCloseRequest
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Server
from tests.support.stages import DRIVE, open_tape

B = TypeVar("B", bound=Body)


class Segment(NamedTuple):
    """A part of the stream on one cartridge; offset and length in bytes."""

    barcode: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Changer:
    """Puts cartridges into the drive over the admin socket, as an operator would; the drive is empty at first."""

    def __init__(self, server: Server, count: int) -> None:
        self._admin = AdminClient(server.ready.admin_socket)
        made = self._admin.ask(TapeCreate("vtl0", count=count))
        assert isinstance(made, Done)
        self.barcodes = made.names
        self.loaded: str | None = None

    def change(self, client: NdmpClient, barcode: str, mode: TapeMode = TapeMode.RDWR) -> None:
        """TAPE_CLOSE, the other cartridge, TAPE_OPEN and rewind."""
        if self.loaded is not None:
            client.ok(TapeCloseRequest())
            self._admin.ask(TapeUnload(DRIVE.decode()))
        self._admin.ask(TapeLoad(DRIVE.decode(), barcode))
        self.loaded = barcode
        open_tape(client, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admin.close()


def take(client: NdmpClient, kind: type[B]) -> B:
    """The first post of this kind, removed from the posts seen."""
    seen = client.wait_until(lambda seen: isinstance(seen.body, kind), kind.__name__)
    client.posts.remove(seen)
    assert isinstance(seen.body, kind)
    return seen.body


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        assert piece, f"the connection ended after {len(data)} of {count} bytes"
        data += piece
    return bytes(data)
