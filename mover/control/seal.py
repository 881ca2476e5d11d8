"""Secrets that have to be known in clear again, sealed by AES-256-GCM: MD5 logins take the NDMP password itself.

The key is a file of the state directory, or a credential of systemd: a database copied without it tells nothing.
"""

import os
import secrets
import stat
from typing import Final

from mover.control.durable import sync_directory

KEY_FILE: Final = "seal.key"
"""In the state directory, mode 0600; made when the first secret is sealed."""
CREDENTIAL: Final = "mover-seal-key"
"""Of systemd (LoadCredential=); where there is one, it takes the file's place."""
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class SealError(Exception):
    """The key cannot be used, or does not open what is sealed; one line, no secret in it."""


class Seal:
    """The key of a state directory. Blocks while the key is read, and while cryptography is imported."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, KEY_FILE)
        self._key: bytes | None = None

    def seal(self, secret: bytes, bound_to: bytes) -> bytes:
        """The secret as it may lie in the database.

        Args:
            bound_to: what must be the same when it is opened.

        Raises:
            SealError: there is no key, and none can be made.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 30 ms, for those who need it

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._load(make=True)).encrypt(nonce, secret, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes | None:
        """The secret; None where it was bound to something else, or sealed by another key.

        Raises:
            SealError: there is no key.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

        key = self._load(make=False)
        if len(sealed) <= _NONCE_BYTES:
            return None
        try:
            return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
        except InvalidTag:
            return None

    def _load(self, *, make: bool) -> bytes:
        if self._key is None:
            directory = os.environ.get("CREDENTIALS_DIRECTORY")
            credential = os.path.join(directory, CREDENTIAL) if directory else ""
            if credential and os.path.exists(credential):
                self._key = _read(credential, ours=False)
            else:
                if make and not os.path.lexists(self._path):
                    _make(self._path)
                self._key = _read(self._path, ours=True)
        return self._key


def _read(path: str, *, ours: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status, key = os.fstat(fd), os.read(fd, KEY_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise SealError(f"the key of the passwords, {path}: {error.strerror}") from error
    if ours and (stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid()):
        raise SealError(f"the key of the passwords, {path}: refused, because others may use it (chmod 600)")
    if len(key) != KEY_BYTES:
        raise SealError(f"the key of the passwords, {path}: expected {KEY_BYTES} bytes")
    return key


def _make(path: str) -> None:
    """Make a key that is whole and on disk under its name, or none."""
    new = f"{path}.new"
    try:
        if os.path.lexists(new):  # of a start that was cut off
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise SealError(f"the key of the passwords, {path}: {error.strerror}") from error
