"""Passwords: NDMP's, which are made here, and login passwords of local users, of which a hash by scrypt is kept."""

import base64
import hashlib
import hmac
import secrets
import string
from typing import Final

NDMP_PASSWORD_LENGTH: Final = 16
_LETTERS: Final = string.ascii_letters + string.digits
LOGIN_PASSWORD_MIN: Final = 8  # characters
LOGIN_PASSWORD_MAX: Final = 1024  # bytes
_N, _R, _P = 1 << 15, 8, 1  # 32 MiB, some 0.1 s
_MEMORY: Final = 64 << 20
_SALT_BYTES: Final = 16


def new_ndmp_password() -> str:
    """16 letters and digits: 95 bits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(NDMP_PASSWORD_LENGTH))


def wrong_with(password: str) -> str:
    """Why a login password is not taken; "" = it is."""
    if len(password) < LOGIN_PASSWORD_MIN:
        return f"a login password has at least {LOGIN_PASSWORD_MIN} characters"
    if len(password.encode()) > LOGIN_PASSWORD_MAX:
        return f"a login password has at most {LOGIN_PASSWORD_MAX} bytes"
    return ""


def hash_login(password: bytes) -> str:
    """What is kept of a login password. Blocks for some 0.1 s."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${_N}${_R}${_P}${_text(salt)}${_text(_derive(password, salt, _N, _R, _P))}"


def verify_login(password: bytes, kept: str) -> bool:
    """Whether it is the password of which ``kept`` was made; "" = of none, and takes as long. Blocks likewise."""
    if not kept:
        _derive(password[:LOGIN_PASSWORD_MAX], bytes(_SALT_BYTES), _N, _R, _P)
        return False
    _, n, r, p, salt, derived = kept.split("$")
    given = _derive(password[:LOGIN_PASSWORD_MAX], base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(given, base64.b64decode(derived)) and len(password) <= LOGIN_PASSWORD_MAX


def _derive(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
