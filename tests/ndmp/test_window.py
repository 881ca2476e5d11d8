"""Checks of record size, window, listen, continue and read, row by row."""

import pytest

from mover.ndmp.enums import U64_MAX, AddressType, ErrorCode, MoverMode, MoverState
from mover.ndmp.window import (
    check_connection_arguments,
    check_connection_preconditions,
    check_continue,
    check_read,
    check_record_size,
    check_window,
    effective_window,
    initial_record_size,
    unbounded,
)

OK, ARGS = ErrorCode.NO_ERR, ErrorCode.ILLEGAL_ARGS_ERR
STATE, PRE = ErrorCode.ILLEGAL_STATE_ERR, ErrorCode.PRECONDITION_ERR
IDLE, LISTEN, PAUSED = MoverState.IDLE, MoverState.LISTEN, MoverState.PAUSED
READ, WRITE, NONE = MoverMode.READ, MoverMode.WRITE, MoverMode.NOACTION


@pytest.mark.parametrize(
    ("size", "block_size", "error"),
    [(0, 0, ARGS), (1, 0, OK), (1000, 0, OK), (1001, 0, ARGS), (512, 512, OK), (768, 512, ARGS)],
)
def test_record_size(size: int, block_size: int, error: ErrorCode) -> None:
    assert check_record_size(size, maximum=1000, block_size=block_size) is error


def test_initial_record_size() -> None:
    assert [initial_record_size(version) for version in (1, 2, 3, 4)] == [10240, 10240, 10240, 0]


@pytest.mark.parametrize(
    ("version", "state", "mode", "record_size", "offset", "length", "lenient", "strict"),
    [
        (4, IDLE, NONE, 0, 0, 0, OK, PRE),  # ndmjob's test-mover asks this first of all
        (4, IDLE, NONE, 10, 0, 0, OK, ARGS),
        (4, IDLE, NONE, 0, 0, 10, PRE, PRE),
        (4, IDLE, NONE, 10, 5, 0, ARGS, ARGS),
        (4, PAUSED, READ, 10, 0, 0, ARGS, ARGS),
        (4, IDLE, NONE, 10, 0, U64_MAX, OK, OK),
        (4, IDLE, NONE, 10, 20, U64_MAX, ARGS, ARGS),
        (4, IDLE, NONE, 10, 20, U64_MAX - 20, OK, OK),
        (4, IDLE, NONE, 10, 20, U64_MAX - 19, ARGS, ARGS),
        (4, IDLE, NONE, 10, 5, 15, OK, OK),  # judged at LISTEN, when the mode is known
        (4, PAUSED, READ, 10, 5, 20, OK, OK),
        (4, PAUSED, READ, 10, 0, 15, ARGS, ARGS),
        (4, PAUSED, READ, 10, 5, U64_MAX - 5, OK, OK),
        (4, PAUSED, READ, 10, 20, U64_MAX, OK, ARGS),  # ndmjob's client, for the next cartridge
        (4, PAUSED, READ, 10, 20, U64_MAX - 19, ARGS, ARGS),
        (4, PAUSED, WRITE, 10, 20, U64_MAX, ARGS, ARGS),
        (4, PAUSED, WRITE, 10, 20, 15, OK, OK),
        (4, PAUSED, WRITE, 10, 5, 20, ARGS, ARGS),
        (4, PAUSED, WRITE, 10, 5, U64_MAX - 5, ARGS, ARGS),
        (3, IDLE, NONE, 10240, 0, 0, OK, ARGS),
        (3, LISTEN, READ, 10240, 0, 0, OK, ARGS),
        (3, PAUSED, READ, 10240, 0, 0, ARGS, ARGS),
        (2, LISTEN, WRITE, 10240, 20480, U64_MAX, OK, OK),
        (2, LISTEN, WRITE, 10240, 20480, U64_MAX - 1, ARGS, ARGS),
        (2, PAUSED, WRITE, 10240, 5, 100, ARGS, ARGS),
        (2, LISTEN, READ, 10240, 0, 20480, OK, OK),
    ],
)
def test_window(
    version: int, state: MoverState, mode: MoverMode, record_size: int, offset: int, length: int,
    lenient: ErrorCode, strict: ErrorCode,
) -> None:  # fmt: skip
    assert check_window(version, state, mode, record_size, offset, length) is lenient
    assert check_window(version, state, mode, record_size, offset, length, strict=True) is strict


@pytest.mark.parametrize(
    ("version", "mode", "record_size", "offset", "length", "lenient", "strict"),
    [
        (4, READ, 0, 0, U64_MAX, PRE, PRE),
        (4, READ, 10, 0, 0, OK, PRE),
        (4, READ, 10, 0, U64_MAX, OK, OK),
        (4, READ, 10, 0, 15, PRE, PRE),
        (4, WRITE, 10, 0, 15, OK, OK),
        (4, WRITE, 10, 5, 15, PRE, PRE),
        (3, WRITE, 0, 5, 0, OK, OK),
        (2, READ, 10240, 0, 0, OK, OK),
    ],
)
def test_preconditions(
    version: int, mode: MoverMode, record_size: int, offset: int, length: int,
    lenient: ErrorCode, strict: ErrorCode,
) -> None:  # fmt: skip
    assert check_connection_preconditions(version, mode, record_size, offset, length) is lenient
    assert check_connection_preconditions(version, mode, record_size, offset, length, strict=True) is strict


@pytest.mark.parametrize(
    ("mode", "addr_type", "error"),
    [(0, 0, OK), (1, 1, OK), (2, 0, ARGS), (123, 0, ARGS), (0, 123, ARGS), (0, 3, ARGS), (-1, 1, ARGS)],
)
def test_arguments_of_listen(mode: int, addr_type: int, error: ErrorCode) -> None:
    offered = frozenset({AddressType.LOCAL, AddressType.TCP})
    assert check_connection_arguments(mode, addr_type, offered) is error


def test_continue_needs_a_new_window_only_by_the_letter() -> None:
    for version in (2, 3, 4):
        assert check_continue(version, window_is_new=False) is OK
        assert check_continue(version, window_is_new=True, strict=True) is OK
    assert check_continue(4, window_is_new=False, strict=True) is PRE
    assert check_continue(3, window_is_new=False, strict=True) is OK


@pytest.mark.parametrize(
    ("mode", "left", "offset", "length", "error"),
    [
        (WRITE, 0, 0, 10, OK),
        (WRITE, 0, 0, U64_MAX, OK),
        (WRITE, 0, 1, U64_MAX, ARGS),
        (WRITE, 0, 5, 0, ARGS),
        (WRITE, 1, 5, 10, ErrorCode.READ_IN_PROGRESS_ERR),
        (WRITE, 1, 5, 0, ARGS),
        (READ, 0, 0, 10, STATE),
    ],
)
def test_read(mode: MoverMode, left: int, offset: int, length: int, error: ErrorCode) -> None:
    assert check_read(mode, left, offset, length) is error


def test_the_window_that_counts() -> None:
    assert effective_window(0, 0) == (0, U64_MAX)
    assert effective_window(10, 20) == (10, 20)
    assert effective_window(10, U64_MAX) == (10, U64_MAX - 10)
    assert unbounded(*effective_window(10, U64_MAX))
    assert not unbounded(10, 20)
