"""Who this server is on secure connections: certificate and key, of the configuration or made by itself."""

import datetime
import hashlib
import ipaddress
import os
import ssl
import stat
from collections.abc import Sequence
from typing import Final, NamedTuple

from mover.config import Config
from mover.config.state_files import CERTIFICATE, KEY
from mover.control.durable import sync_directory

VALID_DAYS: Final = 3650
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


class IdentityError(Exception):
    """Certificate or key cannot be used; one line."""


class Identity(NamedTuple):
    """What secure connections begin with.

    Attributes:
        fingerprint: SHA-256 of the certificate, as openssl x509 -fingerprint shows it.
        made: it was made just now.
    """

    context: ssl.SSLContext
    fingerprint: str
    made: bool


def load_identity(config: Config) -> Identity:
    """Read certificate and key; where none is configured, those of the state directory, made at the first time. Blocks.

    Raises:
        IdentityError: names the file and what is wrong with it.
    """
    tls, made = config.tls, False
    certificate, key = tls.certificate, tls.key
    if not certificate:
        directory = config.node.state_directory
        certificate, key = os.path.join(directory, CERTIFICATE), os.path.join(directory, KEY)
        if not os.path.lexists(certificate):
            _make(certificate, key, config.node.name, [lif.address for lif in config.lif])
            made = True
    try:
        if os.stat(key).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise IdentityError(f"{key}: refused, because others may use it (chmod o-rw)")
        with open(certificate, encoding="ascii", errors="strict") as file:
            text = file.read()
    except OSError as error:
        raise IdentityError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise IdentityError(f"{certificate}: expected a certificate in PEM form") from error
    try:
        context = _context(certificate, key)
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:end])).hexdigest().upper()
    except (OSError, ValueError) as error:
        raise IdentityError(f"{certificate} and {key}: {_words(error)}") from error
    if tls.client_ca:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise IdentityError(f"{tls.client_ca}: {_words(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return Identity(context, ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)), made)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # control connections last; nobody resumes one
    context.load_cert_chain(certificate, key, password="")  # a key with a password must not ask at a terminal
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate and key that belong together, in PEM form and without a password"
    return str(getattr(error, "strerror", None) or error)


def _make(certificate: str, key: str, name: str, addresses: Sequence[str]) -> None:
    """Make a self-signed certificate for this node; the key is on disk before its certificate."""
    from cryptography import x509  # noqa: PLC0415 - for the first start only
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415 - as above

    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # a client's clock may be behind
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        _write(key, secret, 0o600)
        _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise IdentityError(f"{error.filename}: {error.strerror}") from error


def _write(path: str, content: bytes, mode: int) -> None:
    """Put a file in its place, whole and on disk. Raises OSError."""
    new = f"{path}.new"
    if os.path.lexists(new):  # of a start that was cut off
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)
    sync_directory(os.path.dirname(path))
