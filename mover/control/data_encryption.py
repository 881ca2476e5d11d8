"""Who encrypts a data connection, and with what: the option, the keys of a listener, the entry in its address.

Theory of operation. A listener whose DMA cannot be overheard makes a certificate and a token for one connection and
puts fingerprint and token into the environment of the address that it answers with. A connector that finds them in the
address of its CONNECT begins with PREAMBLE and goes on with TLS (mover/relay/tls.py); one that does not know them,
because its DMA has not passed them on or it is none of ours, begins with its stream, or with nothing.
"""

import datetime
import hashlib
import ipaddress
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from mover.control.refusal import Refusal
from mover.ndmp.address_env import ENCRYPTED, FINGERPRINT, SECRET_BYTES, TOKEN
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import Pval
from mover.workers.relay_messages import ConnectorKeys, ListenerKeys

if TYPE_CHECKING:
    from mover.control.connection import Connection

PREAMBLE: Final = b"mover data TLS 1"
"""What a connector that encrypts says first, in clear: who else connects is known by its absence."""
ENCRYPTED_BY: Final = (Pval(ENCRYPTED, b"TLSv1.3"),)
"""The environment that GET_STATE has in the peer's address.

Deviates: NDMPv4 has none there (states.md 4.6); only a DMA that has passed the keys on sees it.
"""
VALID_DAYS: Final = 1  # nobody looks: the fingerprint counts, and the key goes with the listener


class Offer(NamedTuple):
    """What one listener offers.

    Attributes:
        keys: of the listener's side; None = its data connection is a plain one.
        env: of the address that the listener is told by.
        required: a plain peer is refused.
    """

    keys: ListenerKeys | None = None
    env: tuple[Pval, ...] = ()
    required: bool = False


PLAIN: Final = Offer()


def cannot_be_overheard(connection: "Connection") -> bool:
    """Whether a secret may go over this control connection."""
    if connection.secure:
        return True
    if not connection.config.data_connections.secure_loopback:
        return False
    return all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback
        for address in (connection.local_address, connection.peer_address)
    )


async def make_offer(connection: "Connection") -> Offer:
    """What the next listener of a connection offers.

    Raises:
        Refusal: encryption is required and its keys cannot be told to this DMA, or they cannot be made.
    """
    policy = connection.config.node.data_connection_encryption
    if policy == "off":
        return PLAIN
    required = policy == "required"
    if connection.version < 4 or not cannot_be_overheard(connection):
        if required:
            raise _refusal(connection)
        return PLAIN
    try:
        certificate, fingerprint = await trio.to_thread.run_sync(make_certificate)
    except (OSError, ImportError) as error:  # without descriptors nothing can be loaded
        text = f"no keys for an encrypted data connection: {error}"
        raise Refusal(ErrorCode.CONNECT_ERR, text) from error
    token = secrets.token_bytes(SECRET_BYTES)
    env = (Pval(FINGERPRINT, fingerprint.hex().encode()), Pval(TOKEN, token.hex().encode()))
    return Offer(ListenerKeys(certificate, token), env, required)


def keys_of(connection: "Connection", env: tuple[Pval, ...]) -> ConnectorKeys | None:
    """The keys in the address of a CONNECT; None = a plain data connection.

    Raises:
        Refusal: encryption is required and they are not there or may be another's, or they are damaged.
    """
    policy = connection.config.node.data_connection_encryption
    if policy == "off":
        return None
    found = {pair.name: pair.value for pair in env if pair.name in {FINGERPRINT, TOKEN}}
    if policy == "required":
        if connection.version < 4 or not cannot_be_overheard(connection):
            raise _refusal(connection)
        if not found:
            raise Refusal(
                ErrorCode.CONNECT_ERR,
                "data-connection-encryption is required, and the address has no keys: the listening side does not "
                "encrypt, or the DMA does not pass them on",
            )
    if not found:
        return None
    try:
        keys = ConnectorKeys(_secret(found[FINGERPRINT]), _secret(found[TOKEN]))
    except (KeyError, ValueError):
        text = "the keys in the address of the data connection are damaged"
        raise Refusal(ErrorCode.CONNECT_ERR, text) from None
    return keys


def _secret(text: bytes) -> bytes:
    value = bytes.fromhex(text.decode("ascii"))
    if len(value) != SECRET_BYTES:
        raise ValueError("a wrong length")
    return value


def _refusal(connection: "Connection") -> Refusal:
    if connection.version < 4:
        why = f"addresses of protocol version {connection.version} have no room for keys"
    else:
        why = "this control connection is not secure"
    return Refusal(ErrorCode.CONNECT_ERR, f"data-connection-encryption is required, and {why}")


def make_certificate() -> tuple[bytes, bytes]:
    """A certificate with its key (PEM), and its fingerprint. 0.3 ms, the first one 0.15 s."""
    from cryptography import x509  # noqa: PLC0415 - 0.1 s that a server without encryption does not need
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 - as above

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mover data connection")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=VALID_DAYS))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fingerprint = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).digest()
    return made.public_bytes(serialization.Encoding.PEM) + secret, fingerprint
