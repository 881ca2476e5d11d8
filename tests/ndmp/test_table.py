"""The message table: every number of every version, and what is taken before a login."""

import pytest

from mover.ndmp.edge import error_reply, message_code, row_of
from mover.ndmp.enums import MessageCode
from mover.ndmp.errors import NotInVersionError
from mover.ndmp.messages import ConnectCloseRequest, DataListenRequest, LogMessagePost, TapeReadReply
from mover.ndmp.table import EXTENSION_TABLE, ROWS, TABLE, Kind, class_of

NUMBERS = {
    1: {
        0x100, 0x101,
        *range(0x200, 0x207),
        *range(0x300, 0x308),
        *range(0x400, 0x405), 0x407, 0x408,
        0x500, 0x501, 0x502, 0x600, 0x601, 0x700, 0x701, 0x702,
        *range(0x900, 0x903),
    },
    2: {
        0x100, 0x101, 0x102, 0x103,
        *range(0x200, 0x207),
        *range(0x300, 0x306), 0x307,
        *range(0x400, 0x405), 0x407, 0x40B,
        0x501, 0x502, 0x503, 0x504, 0x505, 0x600, 0x601, 0x602, 0x700, 0x701, 0x702,
        *range(0x900, 0x904), *range(0xA00, 0xA09),
    },
    3: {
        0x100, *range(0x102, 0x109),
        *range(0x200, 0x207),
        *range(0x300, 0x306), 0x307,
        *range(0x400, 0x405), 0x407, 0x409, 0x40A, 0x40B,
        0x501, 0x502, 0x503, 0x504, 0x505, 0x602, 0x603, 0x703, 0x704, 0x705,
        *range(0x900, 0x904), *range(0xA00, 0xA0A),
    },
    4: {
        0x100, *range(0x102, 0x10B),
        0x200, 0x201, 0x202, 0x204, 0x206,
        *range(0x300, 0x306), 0x307,
        *range(0x400, 0x405), 0x407, 0x409, 0x40A, 0x40B,
        0x501, 0x502, 0x503, 0x504, 0x505, 0x602, 0x603, 0x703, 0x704, 0x705,
        *range(0x900, 0x904), *range(0xA00, 0xA0A),
    },
}  # fmt: skip

BEFORE_LOGIN = {
    1: {0x900, 0x901, 0x902, 0x100},
    2: {0x900, 0x901, 0x902, 0x100, 0x101, 0x102, 0x103},
    3: {0x900, 0x901, 0x902, 0x103, 0x108},
    4: {0x900, 0x901, 0x902, 0x103, 0x108},
}


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_the_numbers_of_a_version(version: int) -> None:
    assert {code for of_version, code in TABLE if of_version == version} == NUMBERS[version]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_what_is_taken_before_a_login(version: int) -> None:
    taken = {
        code
        for (of_version, code), row in TABLE.items()
        if of_version == version and row.kind is not Kind.POST and not row.needs_authentication
    }
    assert taken == BEFORE_LOGIN[version]


def test_rows_are_consistent() -> None:
    for (version, code), row in TABLE.items():
        assert row.code == code
        assert MessageCode[row.name] == code
        match row.kind:
            case Kind.REQUEST:
                assert row.reply is not None
                assert row.request.__name__.endswith("Request")
                assert row.reply.__name__ == row.request.__name__.removesuffix("Request") + "Reply"
                assert error_reply(row, 7) == row.reply(error=7)
            case Kind.NO_REPLY:
                assert code == MessageCode.CONNECT_CLOSE
                assert row.reply is None
                with pytest.raises(NotInVersionError):
                    error_reply(row, 7)
            case Kind.POST:
                assert row.reply is None
                assert row.request.__name__.endswith("Post")
                assert code >> 8 in {5, 6, 7}
        if version > 2 or row.request is not LogMessagePost:
            assert {other for (v, other), r in TABLE.items() if v == version and r.request is row.request} == {code}


def test_extensions_are_apart_from_every_version() -> None:
    assert set(EXTENSION_TABLE) == {(1, 0x2052_0001), (1, 0x7FF0_0000), (2, 0x7FF0_0000)}
    assert not set(TABLE) & set(EXTENSION_TABLE)
    assert len(ROWS) == len(TABLE) + len(EXTENSION_TABLE)
    assert all(class_of(code) for _, code in EXTENSION_TABLE)
    assert not any(class_of(code) for _, code in TABLE)
    for (_, code), row in EXTENSION_TABLE.items():
        assert row.code == code == MessageCode[row.name]
        assert row.needs_authentication
        assert row.kind is Kind.REQUEST
        assert row.reply is not None
        assert error_reply(row, 7) == row.reply(error=7)


def test_a_struct_is_named_like_its_message() -> None:
    for row in TABLE.values():
        prefixes = ("LOG_LOG", "LOG_DEBUG", "FH_ADD_UNIX", "NOTIFY_CONN", "NOTIFY_HALTED", "CONNECT_AUTH")
        if row.code in {0x101, 0x102} or row.name.startswith(prefixes):
            continue
        camel = "".join(word.capitalize() for word in row.name.split("_"))
        assert row.request.__name__ in {camel + "Request", camel + "Post"}


def test_what_a_version_lacks() -> None:
    with pytest.raises(NotInVersionError, match="DataListenRequest does not exist in version 2"):
        message_code(2, DataListenRequest(0))
    with pytest.raises(NotInVersionError):
        row_of(4, 0x600)
    assert message_code(3, ConnectCloseRequest()) == MessageCode.CONNECT_CLOSE
    assert message_code(3, TapeReadReply()) == MessageCode.TAPE_READ
