"""Where versions meet: wire bodies of each version to and from the one internal form.

A row of `_ROWS` names a body that looks different on the wire, or means something different, in one version.
Every other body is internal form and wire form at once. What a version cannot say is decided here: error codes,
pause and halt reasons, masks, attribute bits, log posts. The version of a message of an extension is its class's
(`mover.ndmp.extensions.layout_version`).
Source: NDMPv1 to NDMPv4 (bodies); NDMPv4 section 2.6 (error codes).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from mover.ndmp import edge_fields as f
from mover.ndmp import messages as m
from mover.ndmp import xdr
from mover.ndmp.enums import (
    U32_MAX,
    U64_MAX,
    ErrorCode,
    LogType,
    MessageCode,
    TapeUnsupported,
)
from mover.ndmp.errors import NotInVersionError
from mover.ndmp.extensions import decode_chosen
from mover.ndmp.history_decode import FAST
from mover.ndmp.messages import v1, v2, v3, v4
from mover.ndmp.table import ROWS, Kind, Row, class_of

T = TypeVar("T", bound=msgspec.Struct)


def map_error(version: int, error: int) -> int:
    """The error code to send in this version: 23 came with version 3, 24 and up with version 4."""
    if version >= 4 or error <= ErrorCode.NO_MEM_ERR or error > ErrorCode.EXT_DN_ILLEGAL:
        return error
    match error:
        case ErrorCode.CONNECT_ERR if version >= 3:
            return error
        case ErrorCode.READ_IN_PROGRESS_ERR | ErrorCode.PRECONDITION_ERR:
            return ErrorCode.ILLEGAL_STATE_ERR
        case _:
            return ErrorCode.UNDEFINED_ERR


_SAME: Final = (f.same, f.same)


class Conversion(msgspec.Struct, frozen=True):
    """A body that one version carries in a form of its own."""

    wire: type[m.Body]
    internal: type[m.Body]
    rename: Mapping[str, str] = {}  # internal field -> wire field of another name
    fields: Mapping[str, f.Pair] = {}  # internal field -> way out, way in
    fill_out: Mapping[str, int] = {}  # wire fields that the internal form lacks
    fill_in: Mapping[str, int] = {}  # internal fields that the wire lacks and that have no default
    out: tuple[tuple[str, f.Convert, int], ...] = ()  # made here: each wire field's source, way, or value

    def __post_init__(self) -> None:
        internal_name = {wire: internal for internal, wire in self.rename.items()}
        steps: list[tuple[str, f.Convert, int]] = []
        for wire_field in self.wire.__struct_fields__:
            if wire_field in self.fill_out:
                steps.append(("", f.same, self.fill_out[wire_field]))
            else:
                name = internal_name.get(wire_field, wire_field)
                steps.append((name, self.fields.get(name, _SAME)[0], 0))
        msgspec.structs.force_setattr(self, "out", tuple(steps))

    def outward(self, body: msgspec.Struct) -> m.Body:
        """Internal form to wire form."""
        return self.wire(*[way(getattr(body, name)) if name else value for name, way, value in self.out])

    def inward(self, body: msgspec.Struct) -> m.Body:
        """Wire form to internal form."""
        values: dict[str, Any] = dict(self.fill_in)
        for name in self.internal.__struct_fields__:
            wire_field = self.rename.get(name, name)
            if wire_field in self.wire.__struct_fields__:
                values[name] = self.fields.get(name, _SAME)[1](getattr(body, wire_field))
        return self.internal(**values)


_ADDRESS: Final = (f.address_out_v3, f.address_in_v3)
_V2_MOVER: Final = {"data_connection_addr": "mover"}
_PAUSE_V2: Final = (f.pause_reason_out_v2, f.same)
_HALT_V3: Final = (f.halt_reason_out_v3, f.same)
_STATUS: Final = (f.recovery_status_out_v3, f.recovery_status_in_v3)
_ENTRY: Final = (f.entry_out_v3, f.entry_in_v3)
_STATE_V1: Final = (f.data_state_out_v1, f.data_state_in_v1)
_DATA_HALT_V1: Final = (f.data_halt_out_v1, f.data_halt_in_v1)
_C = Conversion
_PATHS_V2: Final = _C(
    v2.FhAddUnixPathPost, m.FhAddFilePost, rename={"files": "paths"}, fields={"files": (f.files_out_v2, f.files_in_v2)}
)

# (versions, message, body, conversion)
_ROWS: Final[tuple[tuple[str, str, type[m.Body], Conversion], ...]] = (
    ("1", "CONNECT_AUTH", m.ConnectClientAuthRequest, _C(v1.ConnectAuthRequest, m.ConnectClientAuthRequest)),
    ("1", "CONFIG_GET_HOST_INFO", m.ConfigGetHostInfoReply,
     _C(m.ConfigGetHostInfoReply, m.ConfigGetHostInfoReply, fields={"auth_type": (f.auth_types_out_v1, f.same)})),
    ("34", "CONFIG_GET_HOST_INFO", m.ConfigGetHostInfoReply,
     _C(v3.ConfigGetHostInfoReply, m.ConfigGetHostInfoReply)),
    ("12", "CONFIG_GET_BUTYPE_ATTR", m.ConfigGetButypeAttrReply,
     _C(m.ConfigGetButypeAttrReply, m.ConfigGetButypeAttrReply,
        fields={"attrs": (f.attrs_out_v2, f.attrs_in_v2)})),
    ("3", "CONFIG_GET_BUTYPE_INFO", m.ConfigGetButypeInfoReply,
     _C(m.ConfigGetButypeInfoReply, m.ConfigGetButypeInfoReply,
        fields={"butype_info": (f.butypes_out_v3, f.butypes_in_v3)})),
    ("3", "CONFIG_GET_TAPE_INFO", m.ConfigGetTapeInfoReply,
     _C(m.ConfigGetTapeInfoReply, m.ConfigGetTapeInfoReply, fields={"tape_info": (f.tapes_out_v3, f.same)})),
    ("12", "TAPE_OPEN", m.TapeOpenRequest,
     _C(m.TapeOpenRequest, m.TapeOpenRequest, fields={"mode": (f.same, f.tape_mode_in_v2)})),
    ("3", "TAPE_OPEN", m.TapeOpenRequest,
     _C(m.TapeOpenRequest, m.TapeOpenRequest, fields={"mode": (f.same, f.tape_mode_in_v3)})),
    ("123", "TAPE_MTIO", m.TapeMtioRequest,
     _C(m.TapeMtioRequest, m.TapeMtioRequest, fields={"tape_op": (f.same, f.tape_op_in_v3)})),
    ("1", "TAPE_GET_STATE", m.TapeGetStateReply, _C(v1.TapeGetStateReply, m.TapeGetStateReply)),
    ("2", "TAPE_GET_STATE", m.TapeGetStateReply, _C(v2.TapeGetStateReply, m.TapeGetStateReply)),
    ("3", "TAPE_GET_STATE", m.TapeGetStateReply, _C(v3.TapeGetStateReply, m.TapeGetStateReply)),
    ("4", "TAPE_GET_STATE", m.TapeGetStateReply, _C(v4.TapeGetStateReply, m.TapeGetStateReply)),
    ("123", "TAPE_READ", m.TapeReadReply,
     _C(m.TapeReadReply, m.TapeReadReply, fields={"error": (f.blank_tape_out_v3, f.same)})),
    ("1", "DATA_GET_STATE", m.DataGetStateReply,
     _C(v1.DataGetStateReply, m.DataGetStateReply, fields={"state": _STATE_V1, "halt_reason": _DATA_HALT_V1},
        fill_out={"resvd1": 0, "resvd2": 0, "resvd3": 0})),
    ("2", "DATA_GET_STATE", m.DataGetStateReply,
     _C(v2.DataGetStateReply, m.DataGetStateReply, rename=_V2_MOVER,
        fields={"data_connection_addr": _ADDRESS})),
    ("3", "DATA_GET_STATE", m.DataGetStateReply,
     _C(v3.DataGetStateReply, m.DataGetStateReply, rename={"unsupported": "invalid"},
        fields={"data_connection_addr": _ADDRESS})),
    ("4", "DATA_GET_STATE", m.DataGetStateReply, _C(v4.DataGetStateReply, m.DataGetStateReply)),
    ("1", "DATA_START_BACKUP", m.DataStartBackupRequest,
     _C(v1.DataStartBackupRequest, m.DataStartBackupRequest, rename={"butype": "bu_type"})),
    ("2", "DATA_START_BACKUP", m.DataStartBackupRequest,
     _C(v2.DataStartBackupRequest, m.DataStartBackupRequest,
        rename={"mover_address": "mover", "butype": "bu_type"}, fields={"mover_address": _ADDRESS})),
    ("34", "DATA_START_BACKUP", m.DataStartBackupRequest,
     _C(v3.DataStartBackupRequest, m.DataStartBackupRequest)),
    ("1", "DATA_START_RECOVER", m.DataStartRecoverRequest,
     _C(v1.DataStartRecoverRequest, m.DataStartRecoverRequest, rename={"butype": "bu_type"},
        fields={"nlist": (f.nlist_out_v1, f.nlist_in_v1)})),
    ("2", "DATA_START_RECOVER", m.DataStartRecoverRequest,
     _C(v2.DataStartRecoverRequest, m.DataStartRecoverRequest,
        rename={"mover_address": "mover", "butype": "bu_type"},
        fields={"mover_address": _ADDRESS, "nlist": (f.nlist_out_v2, f.nlist_in_v2)})),
    ("34", "DATA_START_RECOVER", m.DataStartRecoverRequest,
     _C(v3.DataStartRecoverRequest, m.DataStartRecoverRequest)),
    ("2", "DATA_START_RECOVER_FILEHIST", m.DataStartRecoverFilehistRequest,
     _C(v2.DataStartRecoverRequest, m.DataStartRecoverFilehistRequest,
        rename={"mover_address": "mover", "butype": "bu_type"},
        fields={"mover_address": _ADDRESS, "nlist": (f.nlist_out_v2, f.nlist_in_v2)})),
    ("34", "DATA_START_RECOVER_FILEHIST", m.DataStartRecoverFilehistRequest,
     _C(v3.DataStartRecoverRequest, m.DataStartRecoverFilehistRequest)),
    ("3", "DATA_LISTEN", m.DataListenReply,
     _C(v3.DataListenReply, m.DataListenReply, fields={"data_connection_addr": _ADDRESS})),
    ("3", "DATA_CONNECT", m.DataConnectRequest,
     _C(v3.DataConnectRequest, m.DataConnectRequest, fields={"addr": _ADDRESS})),
    ("2", "MOVER_GET_STATE", m.MoverGetStateReply,
     _C(v2.MoverGetStateReply, m.MoverGetStateReply, rename={"bytes_moved": "data_written"},
        fields={"pause_reason": _PAUSE_V2, "halt_reason": _HALT_V3})),
    ("3", "MOVER_GET_STATE", m.MoverGetStateReply,
     _C(v3.MoverGetStateReply, m.MoverGetStateReply, rename={"bytes_moved": "data_written"},
        fields={"halt_reason": _HALT_V3, "data_connection_addr": _ADDRESS})),
    ("2", "MOVER_LISTEN", m.MoverListenReply,
     _C(v2.MoverListenReply, m.MoverListenReply, rename=_V2_MOVER, fields={"data_connection_addr": _ADDRESS})),
    ("3", "MOVER_LISTEN", m.MoverListenReply,
     _C(v3.MoverListenReply, m.MoverListenReply, fields={"data_connection_addr": _ADDRESS})),
    ("3", "MOVER_CONNECT", m.MoverConnectRequest,
     _C(v3.MoverConnectRequest, m.MoverConnectRequest, fields={"addr": _ADDRESS})),
    ("1", "NOTIFY_PAUSED", m.NotifyPausedPost,
     _C(v1.NotifyPausedPost, m.NotifyPausedPost, fill_out={"resvd": 0})),
    ("1", "NOTIFY_HALTED", m.NotifyDataHaltedPost,
     _C(m.NotifyDataHaltedPost, m.NotifyDataHaltedPost, fields={"reason": _DATA_HALT_V1})),
    ("4", "NOTIFY_DATA_HALTED", m.NotifyDataHaltedPost, _C(v4.NotifyDataHaltedPost, m.NotifyDataHaltedPost)),
    ("23", "NOTIFY_MOVER_HALTED", m.NotifyMoverHaltedPost,
     _C(m.NotifyMoverHaltedPost, m.NotifyMoverHaltedPost, fields={"reason": _HALT_V3})),
    ("4", "NOTIFY_MOVER_HALTED", m.NotifyMoverHaltedPost,
     _C(v4.NotifyMoverHaltedPost, m.NotifyMoverHaltedPost)),
    ("2", "NOTIFY_MOVER_PAUSED", m.NotifyMoverPausedPost,
     _C(m.NotifyMoverPausedPost, m.NotifyMoverPausedPost, fields={"reason": _PAUSE_V2})),
    ("12", "LOG_LOG", m.LogMessagePost,
     _C(v2.LogLogPost, m.LogMessagePost, fields={"entry": _ENTRY},
        fill_in={"log_type": LogType.NORMAL, "message_id": 0})),
    ("12", "LOG_DEBUG", m.LogMessagePost,
     _C(v2.LogDebugPost, m.LogMessagePost, rename={"entry": "message"}, fields={"entry": _ENTRY},
        fill_in={"log_type": LogType.DEBUG, "message_id": 0})),
    ("3", "LOG_MESSAGE", m.LogMessagePost,
     _C(v3.LogMessagePost, m.LogMessagePost, fields={"entry": _ENTRY})),
    ("4", "LOG_MESSAGE", m.LogMessagePost, _C(v4.LogMessagePost, m.LogMessagePost)),
    ("2", "LOG_FILE", m.LogFilePost,
     _C(v2.LogFilePost, m.LogFilePost, rename={"recovery_status": "error"},
        fields={"recovery_status": _STATUS}, fill_out={"ssid": 0})),
    ("3", "LOG_FILE", m.LogFilePost,
     _C(v3.LogFilePost, m.LogFilePost, rename={"recovery_status": "error"},
        fields={"recovery_status": _STATUS})),
    ("1", "FH_ADD_UNIX", m.FhAddFilePost, _PATHS_V2),
    ("2", "FH_ADD_UNIX_PATH", m.FhAddFilePost, _PATHS_V2),
    ("12", "FH_ADD_UNIX_DIR", m.FhAddDirPost,
     _C(v2.FhAddUnixDirPost, m.FhAddDirPost, fields={"dirs": (f.dirs_out_v2, f.dirs_in_v2)})),
    ("12", "FH_ADD_UNIX_NODE", m.FhAddNodePost,
     _C(v2.FhAddUnixNodePost, m.FhAddNodePost, fields={"nodes": (f.nodes_out_v2, f.nodes_in_v2)})),
    # of class 7ff0
    ("1", "TEST_ECHO", m.TestEchoRequest, _C(m.TestEchoRequest1, m.TestEchoRequest)),
    ("1", "TEST_ECHO", m.TestEchoReply, _C(m.TestEchoReply1, m.TestEchoReply)),
)  # fmt: skip

CONVERSIONS: Final[dict[tuple[int, int, type[m.Body]], Conversion]] = {
    (int(digit), MessageCode[name], body): conversion
    for versions, name, body, conversion in _ROWS
    for digit in versions
}
"""(version, message number, internal body) -> conversion; absent: the internal form is the wire form."""

_OWN_DECODERS: Final[dict[type[m.Body], Callable[[bytes, int], m.Body | None]]] = {
    **FAST,
    m.ConfigSetExtListRequest: decode_chosen,
}
"""Body -> what decodes it where the codec need not or cannot; None from it leaves it to the codec."""

_CODES: Final[dict[tuple[int, type[m.Body]], MessageCode]] = {
    (version, body): row.code
    for (version, _), row in ROWS.items()
    for body in (row.request, row.reply)
    if body is not None
}

_CLASSES: Final = {body: class_of(code) for (_, body), code in _CODES.items()}


def class_of_body(body: type[m.Body]) -> int:
    """The extension class to which a body belongs; 0 = NDMP itself."""
    return _CLASSES.get(body, 0)


def _build_codecs() -> None:
    """Build every codec now, once: a mistake in an annotation shows at import, not at the first message."""
    for (version, code), row in ROWS.items():
        for body in (row.request, row.reply):
            if body is not None:
                conversion = CONVERSIONS.get((version, code, body))
                xdr.codec(body if conversion is None else conversion.wire)


_build_codecs()

_EMPTY: Final[dict[tuple[int, int], m.Body]] = {
    number: row.request()
    for number, row in ROWS.items()
    if not row.request.__struct_fields__ and (*number, row.request) not in CONVERSIONS
}
"""Requests that are a header and nothing else, as most that are asked again and again."""


def message_code(version: int, body: m.Body) -> MessageCode:
    """The number under which a body travels in a version; raises NotInVersionError."""
    if version <= 2 and isinstance(body, m.LogMessagePost):
        return MessageCode.LOG_DEBUG if body.log_type == LogType.DEBUG else MessageCode.LOG_LOG
    code = _CODES.get((version, type(body)))
    if code is None:
        raise NotInVersionError(f"{type(body).__name__} does not exist in version {version}")
    return code


def _mask_tape_state(version: int, state: m.TapeGetStateReply) -> m.TapeGetStateReply:
    """Give fields that the server cannot tell the value that says so in this version.

    v4: all ones beside the bit. v1 and v2 have no mask: sizes 0, file_num and blockno all ones.
    """
    mask = state.unsupported
    unknown_32, unknown_64 = (U32_MAX, U64_MAX) if version == 4 else (0, 0)
    fields = (
        (TapeUnsupported.FILE_NUM, "file_num", U32_MAX),
        (TapeUnsupported.SOFT_ERRORS, "soft_errors", unknown_32),
        (TapeUnsupported.BLOCK_SIZE, "block_size", unknown_32),
        (TapeUnsupported.BLOCKNO, "blockno", U32_MAX),
        (TapeUnsupported.TOTAL_SPACE, "total_space", unknown_64),
        (TapeUnsupported.SPACE_REMAIN, "space_remain", unknown_64),
    )
    changes = {name: unknown for bit, name, unknown in fields if mask & bit}
    return msgspec.structs.replace(state, unsupported=mask & ~TapeUnsupported.PARTITION, **changes)


def encode_body(version: int, body: m.Body) -> tuple[MessageCode, bytes]:
    """Number and wire form of a request or post; raises NotInVersionError, XdrEncodeError."""
    code = message_code(version, body)
    return code, _encode(version, code, body)


def encode_reply(version: int, code: int, reply: m.Body) -> bytes:
    """Wire form of the reply to a message; raises NotInVersionError, XdrEncodeError."""
    row = row_of(version, code)
    if row.reply is not type(reply):
        raise NotInVersionError(f"{type(reply).__name__} does not answer {row.name} of version {version}")
    error: int = getattr(reply, "error", ErrorCode.NO_ERR)
    mapped = error if class_of(code) else map_error(version, error)
    if mapped != error:
        reply = msgspec.structs.replace(reply, error=mapped)
    if isinstance(reply, m.TapeGetStateReply) and version != 3:
        reply = _mask_tape_state(version, reply)
    return _encode(version, row.code, reply)


def _encode(version: int, code: MessageCode, body: m.Body) -> bytes:
    conversion = CONVERSIONS.get((version, code, type(body)))
    return xdr.encode(body if conversion is None else conversion.outward(body))


def row_of(version: int, code: int) -> Row:
    """The row of a message; raises NotInVersionError."""
    row = ROWS.get((version, code))
    if row is None:
        raise NotInVersionError(f"message {code:#x} does not exist in version {version}")
    return row


def decode_request(version: int, code: int, record: bytes, offset: int = 0) -> m.Body:
    """Internal form of a request or post at `offset`; raises NotInVersionError, XdrDecodeError."""
    empty = _EMPTY.get((version, code))
    if empty is not None:
        return empty
    row = row_of(version, code)
    return _decode(version, row, row.request, record, offset)


def decode_reply(version: int, code: int, record: bytes, offset: int = 0) -> m.Body:
    """Internal form of the reply to a message at `offset`; raises NotInVersionError, XdrDecodeError."""
    row = row_of(version, code)
    if row.reply is None:
        raise NotInVersionError(f"{row.name} has no reply")
    return _decode(version, row, row.reply, record, offset)


def _decode(version: int, row: Row, internal: type[m.Body], record: bytes, offset: int) -> m.Body:
    conversion = CONVERSIONS.get((version, row.code, internal))
    if conversion is None:
        fast = _OWN_DECODERS.get(internal)
        body = None if fast is None else fast(record, offset)
        return xdr.decode(internal, record, offset) if body is None else body
    return conversion.inward(xdr.decode(conversion.wire, record, offset))


def error_reply(row: Row, error: int) -> m.Body:
    """The reply of a row with an error and nothing else; raises NotInVersionError for a message without reply."""
    if row.kind is not Kind.REQUEST or row.reply is None:
        raise NotInVersionError(f"{row.name} has no reply")
    return row.reply(error=error)
