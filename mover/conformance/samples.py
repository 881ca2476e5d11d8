"""Every request with arguments that are right, and which numbers each version has.

Source: messages.md 1; wire.md 6.2 and 8. Numbers and lists are written out here, not taken from the server's table.
"""

from os import fsencode
from typing import Final

from mover.conformance.options import Options
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, AuthType, MoverMode, TapeMode, TapeOperation

CONNECT_OPEN: Final = 0x900
CONNECT_CLIENT_AUTH: Final = 0x901
CONNECT_CLOSE: Final = 0x902
CONNECT_SERVER_AUTH: Final = 0x903
CONFIG_GET_AUTH_ATTR: Final = 0x103
DATA_GET_STATE: Final = 0x400
MOVER_GET_STATE: Final = 0xA00
START_RECOVER_FILEHIST: Final = 0x40B

_FROM_1 = {0x100, *range(0x200, 0x203), 0x204, 0x206, *range(0x300, 0x306), 0x307}
_FROM_2 = _FROM_1 | {0x102, 0x103, *range(0x400, 0x405), 0x407, *range(0x900, 0x904), *range(0xA00, 0xA09)}
_FROM_3 = _FROM_2 | {*range(0x104, 0x109), 0x409, 0x40A, 0xA09}
NUMBERS: Final[dict[int, frozenset[int]]] = {
    1: frozenset(_FROM_1 | {0x101, 0x203, 0x205, 0x306, *range(0x400, 0x405), 0x407, 0x408, *range(0x900, 0x903)}),
    2: frozenset(_FROM_2 | {0x101, 0x203, 0x205}),
    3: frozenset(_FROM_3 | {0x203, 0x205}),
    4: frozenset(_FROM_3 | {0x109, 0x10A, START_RECOVER_FILEHIST}),
}
"""Requests of each version."""
FOREIGN: Final = frozenset(
    {
        0x101,
        0x102,
        0x103,
        0x903,
        0xA00,
        0xA08,
        0x104,
        0x109,
        0x203,
        0x205,
        0x306,
        0x405,
        0x406,
        0x408,
        0x409,
        0x40A,
        0xA09,
    }
)
"""What some version has and others have not, and reserved numbers. 0x40b is NDMJOB's extension in 2 and 3."""
UNKNOWN: Final = frozenset(
    {0x10B, 0x207, 0x308, 0x40C, 0x800, 0x904, 0xA0A, 0xB00, 0x0001_0000, 0x2050_0100, 0xF001_0000}
)
"""Numbers that no version has."""

BEFORE_LOGIN: Final[dict[int, frozenset[int]]] = {
    1: frozenset({0x900, 0x901, 0x902, 0x100}),
    2: frozenset({0x900, 0x901, 0x902, 0x100, 0x103, 0x101, 0x102}),
    3: frozenset({0x900, 0x901, 0x902, 0x108, 0x103}),
    4: frozenset({0x900, 0x901, 0x902, 0x108, 0x103}),
}
"""What has to be taken before a login."""
MAYBE_BEFORE_LOGIN: Final[dict[int, frozenset[int]]] = {
    1: frozenset({0x101}),  # "most requests need a login"
    2: frozenset({0x903, *range(0x100, 0x110)}),  # "all of CONNECT and CONFIG"
    3: frozenset(range(0x100, 0x110)),  # "some of CONFIG"
    4: frozenset(),
}
"""What may be taken before a login besides."""


def requests(version: int, options: Options) -> dict[int, m.Body]:
    """Number -> a request that decodes; for sessions that must not get anything from it."""
    device = b"bogus"
    mover = m.LOCAL if version == 2 else None
    butype = fsencode(options.butype)
    made: dict[int, m.Body] = {
        0x100: m.ConfigGetHostInfoRequest(),
        0x101: m.ConfigGetButypeAttrRequest(butype),
        0x102: m.ConfigGetConnectionTypeRequest(),
        0x103: m.ConfigGetAuthAttrRequest(AuthType.MD5),
        0x104: m.ConfigGetButypeInfoRequest(),
        0x105: m.ConfigGetFsInfoRequest(),
        0x106: m.ConfigGetTapeInfoRequest(),
        0x107: m.ConfigGetScsiInfoRequest(),
        0x108: m.ConfigGetServerInfoRequest(),
        0x109: m.ConfigSetExtListRequest(),
        0x10A: m.ConfigGetExtListRequest(),
        0x200: m.ScsiOpenRequest(device),
        0x201: m.ScsiCloseRequest(),
        0x202: m.ScsiGetStateRequest(),
        0x203: m.ScsiSetTargetRequest(device, 0, 0, 0),
        0x204: m.ScsiResetDeviceRequest(),
        0x205: m.ScsiResetBusRequest(),
        0x206: m.ScsiExecuteCdbRequest(0, 0, 0, bytes(6)),
        0x300: m.TapeOpenRequest(device, TapeMode.READ),
        0x301: m.TapeCloseRequest(),
        0x302: m.TapeGetStateRequest(),
        0x303: m.TapeMtioRequest(TapeOperation.REW, 1),
        0x304: m.TapeWriteRequest(b""),
        0x305: m.TapeReadRequest(0),
        0x306: m.TapeSetRecordSizeRequest(1024),
        0x307: m.TapeExecuteCdbRequest(0, 0, 0, bytes(6)),
        0x400: m.DataGetStateRequest(),
        0x401: m.DataStartBackupRequest(butype, (), mover),
        0x402: m.DataStartRecoverRequest((), (), butype, mover),
        0x403: m.DataAbortRequest(),
        0x404: m.DataGetEnvRequest(),
        0x407: m.DataStopRequest(),
        0x408: m.DataContinueRequest(),
        0x409: m.DataListenRequest(AddressType.LOCAL),
        0x40A: m.DataConnectRequest(m.LOCAL),
        0x40B: m.DataStartRecoverFilehistRequest((), (), butype, mover),
        0x903: m.ConnectServerAuthRequest(m.AUTH_NONE),
        0xA00: m.MoverGetStateRequest(),
        0xA01: m.MoverListenRequest(MoverMode.READ, AddressType.LOCAL),
        0xA02: m.MoverContinueRequest(),
        0xA03: m.MoverAbortRequest(),
        0xA04: m.MoverStopRequest(),
        0xA05: m.MoverSetWindowRequest(0, 0),
        0xA06: m.MoverReadRequest(0, 1),
        0xA07: m.MoverCloseRequest(),
        0xA08: m.MoverSetRecordSizeRequest(1024),
        0xA09: m.MoverConnectRequest(MoverMode.READ, m.LOCAL),
    }
    return {number: body for number, body in made.items() if number in NUMBERS[version]}
