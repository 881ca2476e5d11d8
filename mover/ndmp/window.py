"""Checks of record size, window, listen and read of the mover, as pure functions that return an error code.

Strict follows version 4 to the letter; the default takes what deployed clients send: SET_WINDOW(0, 0) means
"no window", a missing window is the largest, and CONTINUE needs no new one. Codes are version 4's: the edge
turns PRECONDITION and READ_IN_PROGRESS into ILLEGAL_STATE for versions 2 and 3.
Source: NDMPv4 sections 3.6.1 to 3.6.9 (mover requests).
"""

from typing import Final

from mover.ndmp.enums import U64_MAX, UNBOUNDED, ErrorCode, MoverMode, MoverState

DEFAULT_RECORD_SIZE: Final = 10_240
"""Record size of a mover in versions 2 and 3 that was never set; version 4 has none."""


def initial_record_size(version: int) -> int:
    """Record size before the first SET_RECORD_SIZE; 0 = none."""
    return 0 if version >= 4 else DEFAULT_RECORD_SIZE


def check_record_size(size: int, *, maximum: int, block_size: int = 0) -> ErrorCode:
    """SET_RECORD_SIZE in bytes; a drive with fixed blocks takes multiples of its block only."""
    if size == 0 or size > maximum or (block_size and size % block_size):
        return ErrorCode.ILLEGAL_ARGS_ERR
    return ErrorCode.NO_ERR


def effective_window(offset: int, length: int) -> tuple[int, int]:
    """The window that counts: none is the largest, and no window reaches past 64 bits."""
    if length == 0:
        return 0, UNBOUNDED
    return offset, min(length, U64_MAX - offset)


def unbounded(offset: int, length: int) -> bool:
    """Whether a window has no end."""
    return length == UNBOUNDED or offset + length == U64_MAX


def _misaligned(mode: int, record_size: int, offset: int, length: int) -> bool:
    if record_size == 0:
        return False
    if mode == MoverMode.READ:
        return not unbounded(offset, length) and length % record_size != 0
    # Reading tape the length is free: the window may end at the end of the stream, inside a record.
    return mode == MoverMode.WRITE and offset % record_size != 0


def _no_end(version: int, state: MoverState, mode: int, *, strict: bool) -> bool:
    """Whether a length of all ones behind offset 0 is taken as no end.

    Before version 4 nothing says what it means. In version 4 it is wrong; but NDMJOB's client sends it for the next
    cartridge of a backup, where the offset does not count.
    """
    return version < 4 or (not strict and state is MoverState.PAUSED and mode == MoverMode.READ)


def check_window(
    version: int, state: MoverState, mode: int, record_size: int, offset: int, length: int, *, strict: bool = False
) -> ErrorCode:
    """SET_WINDOW in a state that takes it; `mode` counts outside IDLE only."""
    if not strict and (offset, length) == (0, 0) and state in {MoverState.IDLE, MoverState.LISTEN}:
        return ErrorCode.NO_ERR
    if version >= 4 and record_size == 0:
        return ErrorCode.PRECONDITION_ERR
    if length == 0:
        return ErrorCode.ILLEGAL_ARGS_ERR
    if offset + length > U64_MAX and not (length == UNBOUNDED and _no_end(version, state, mode, strict=strict)):
        return ErrorCode.ILLEGAL_ARGS_ERR
    if state is not MoverState.IDLE and _misaligned(mode, record_size, offset, length):
        return ErrorCode.ILLEGAL_ARGS_ERR
    return ErrorCode.NO_ERR


def check_connection_preconditions(
    version: int, mode: int, record_size: int, offset: int, length: int, *, strict: bool = False
) -> ErrorCode:
    """What LISTEN and CONNECT of version 4 need beforehand: a record size, and a window on its boundaries."""
    if version < 4:
        return ErrorCode.NO_ERR
    if record_size == 0:
        return ErrorCode.PRECONDITION_ERR
    if length == 0:
        return ErrorCode.PRECONDITION_ERR if strict else ErrorCode.NO_ERR
    if _misaligned(mode, record_size, offset, length):
        return ErrorCode.PRECONDITION_ERR
    return ErrorCode.NO_ERR


def check_connection_arguments(mode: int, addr_type: int, offered: frozenset[int]) -> ErrorCode:
    """Mode and address type of LISTEN and CONNECT; judged before the state and before the tape."""
    if mode not in {MoverMode.READ, MoverMode.WRITE} or addr_type not in offered:
        return ErrorCode.ILLEGAL_ARGS_ERR
    return ErrorCode.NO_ERR


def check_continue(version: int, *, window_is_new: bool, strict: bool = False) -> ErrorCode:
    """CONTINUE of a paused mover; by the letter version 4 wants a window set since the pause."""
    if strict and version >= 4 and not window_is_new:
        return ErrorCode.PRECONDITION_ERR
    return ErrorCode.NO_ERR


def check_read(mode: int, bytes_left_to_read: int, offset: int, length: int) -> ErrorCode:
    """MOVER_READ of an active mover: one at a time, and all ones only from the start."""
    if length == 0 or offset + length > U64_MAX:
        return ErrorCode.ILLEGAL_ARGS_ERR
    if mode != MoverMode.WRITE:
        return ErrorCode.ILLEGAL_STATE_ERR
    if bytes_left_to_read:
        return ErrorCode.READ_IN_PROGRESS_ERR
    return ErrorCode.NO_ERR
