"""The messages between control and a relay; see :mod:`mover.workers.messages`."""

from typing import Literal

from msgspec import Struct

from mover.workers.message import Message


class ListenerKeys(Struct, frozen=True, tag=True):
    """What the listening side of an encrypted data connection has: certificate and key (PEM), and who may connect."""

    certificate: bytes
    token: bytes

    def __repr__(self) -> str:
        """Without the secrets, wherever a message is printed."""
        return "ListenerKeys()"


class ConnectorKeys(Struct, frozen=True, tag=True):
    """What the connecting side has: SHA-256 of the listener's certificate, and the token to show."""

    fingerprint: bytes
    token: bytes

    def __repr__(self) -> str:
        """Without the secret."""
        return f"ConnectorKeys({self.fingerprint.hex()!r})"


class AttachConnection(Message, frozen=True):
    """Relay: take the data connection. Descriptors: the connected socket. Reply: Done or Refused.

    watch: until StartRelay a peer that closes is lost. Without it what the peer sent and its end of file wait for
    StartRelay: a short stream may be over before the ring stands.
    keys: it is to be encrypted; Done then says that the peer is the right one, within handshake_s. None = it is plain.
    """

    peer_timeout_s: float
    watch: bool
    keys: ListenerKeys | ConnectorKeys | None = None
    handshake_s: float = 0.0


class StartRelay(Message, frozen=True):
    """Relay: begin to carry. Descriptors: the data ring. direction: ring to socket, or socket to ring. Reply: Done."""

    direction: Literal["send", "receive"]


class ConnectionLost(Message, frozen=True):
    """The data connection ended before StartRelay."""

    text: str


class RelayFinished(Message, frozen=True):
    """The data connection is over.

    orderly: the stream's end went through: the in-band END was sent and acknowledged, the peer's end was received, or
    the consumer had all it wanted and the peer was told so. peer_closed: a sender's peer closed in good order before
    the end (a recover that has all it wants; in a backup that is a failure).
    """

    orderly: bool
    peer_closed: bool
    text: str
    socket_bytes: int


Request = AttachConnection | StartRelay
Event = ConnectionLost | RelayFinished
