"""The shadow entry of a user as NSS has it: files, NIS, LDAP, SSSD, whatever the host is configured for."""

import ctypes
import hashlib
import time
from typing import NamedTuple

CRYPT_LENGTH = 13
"""Characters of the old crypt(3), which has no prefix."""
_DAY_S = 86_400


class _Entry(ctypes.Structure):
    """struct spwd of <shadow.h>."""

    _fields_ = [
        ("sp_namp", ctypes.c_char_p), ("sp_pwdp", ctypes.c_char_p), ("sp_lstchg", ctypes.c_long),
        ("sp_min", ctypes.c_long), ("sp_max", ctypes.c_long), ("sp_warn", ctypes.c_long),
        ("sp_inact", ctypes.c_long), ("sp_expire", ctypes.c_long), ("sp_flag", ctypes.c_ulong),
    ]  # fmt: skip


class Shadow(NamedTuple):
    """What is told of an entry.

    Attributes:
        fingerprint: changes with the login password; "" = the entry, or the hash in it, is not visible to us.
        locked: the account is expired, or its password is locked.
    """

    fingerprint: str
    locked: bool


def read(user: str) -> Shadow:
    """Look the entry up. Blocks as long as NSS does."""
    libc = ctypes.CDLL(None)
    libc.getspnam.argtypes = [ctypes.c_char_p]
    libc.getspnam.restype = ctypes.POINTER(_Entry)
    found = libc.getspnam(user.encode())
    if not found:
        return Shadow("", False)
    entry = found.contents
    return judge(entry.sp_pwdp or b"", entry.sp_lstchg, entry.sp_expire, int(time.time()) // _DAY_S)


def judge(kept: bytes, changed: int, expires: int, today: int) -> Shadow:
    """What an entry means.

    Args:
        kept: the hash as the entry has it; a "!" before it locks the password.
        changed, expires, today: days since 1970; expires -1 = never.
    """
    locked = kept.startswith(b"!") or 0 <= expires <= today
    # "*" and "x" stand where the directory does not show the hash. Its date alone would not tell of every change.
    if locked or (not kept.startswith((b"$", b"_", b"{")) and len(kept) != CRYPT_LENGTH):
        return Shadow("", locked)
    return Shadow(hashlib.sha256(b"%d:%s" % (changed, kept)).hexdigest(), False)
