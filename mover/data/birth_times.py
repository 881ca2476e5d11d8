"""When objects were made, which ``os.stat`` of this Python does not tell: statx(2) by ctypes.

Source: statx(2); linux/include/uapi/linux/stat.h, struct statx.
"""

import ctypes
import os
import struct
from typing import Final

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_MASK: Final = struct.Struct("=I")
_BIRTH: Final = struct.Struct("=qI")
_BIRTH_AT: Final = 80
_BILLION: Final = 1_000_000_000


class BirthTimes:
    """Asks for times of birth."""

    def __init__(self) -> None:
        self._statx = ctypes.CDLL(None, use_errno=True).statx
        self._statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
        self._answer = ctypes.create_string_buffer(_STATX_BYTES)

    def of(self, name: bytes, directory: int) -> int | None:
        """When an entry of a directory was made, in nanoseconds since 1970; None = its file system does not know.

        Raises:
            OSError: it is not there, or cannot be asked about.
        """
        answer = self._answer
        if self._statx(directory, name, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, ctypes.addressof(answer)):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), name)
        (mask,) = _MASK.unpack_from(answer)
        if not mask & _STATX_BTIME:
            return None
        seconds, nanoseconds = _BIRTH.unpack_from(answer, _BIRTH_AT)
        return int(seconds * _BILLION + nanoseconds)
