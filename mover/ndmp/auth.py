"""Login data: TEXT and MD5.

The digest is the one in use, not that of the version 2 text: MD5 over 128 bytes, zero filled, with the password
(P bytes) at offset 0, the challenge at offset 64 - P, and the password once more at offset 128 - P.
Source: NDMPv4 section 3.1.2; the layout was checked against ndmjob.
"""

import hashlib
import hmac
import secrets
from typing import Final

CHALLENGE_SIZE: Final = 64
PASSWORD_MAX: Final = 32
"""Bytes of a password that the digest takes; more are cut off."""


def new_challenge() -> bytes:
    """A fresh challenge, good for one login."""
    return secrets.token_bytes(CHALLENGE_SIZE)


def md5_digest(challenge: bytes, password: bytes) -> bytes:
    """The 16 bytes that prove the password: MD5 over password, zeros, challenge, password."""
    password = password[:PASSWORD_MAX]
    message = bytearray(128)
    message[: len(password)] = password
    start = CHALLENGE_SIZE - len(password)
    message[start : start + CHALLENGE_SIZE] = challenge
    if password:
        message[-len(password) :] = password
    return hashlib.md5(message, usedforsecurity=False).digest()


def verify_md5(digest: bytes, challenge: bytes, password: bytes) -> bool:
    """Whether the digest proves the password; takes the same time for any digest. No password: never."""
    right = hmac.compare_digest(digest, md5_digest(challenge, password))
    return right and bool(password)


def verify_text(given: bytes, password: bytes) -> bool:
    """Whether the password given is the right one; takes the same time for any of its length."""
    return hmac.compare_digest(given, password)
