"""The fields of a message as JSON has them, for the protocol log: numbers by name, bytes as text, secrets left out."""

import hashlib
from enum import IntEnum
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints  # Any: JSON values

import msgspec

from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    AuthType,
    ConnectionStatusReason,
    DataHaltReason,
    DataOperation,
    DataPauseReason,
    DataState,
    ErrorCode,
    FileType,
    FsType,
    LogLevel,
    LogType,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    RecoveryStatus,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.table import ROWS
from mover.ndmp.xdr_types import Arms

TEXT_BYTES_MAX: Final = 4096
LEFT_OUT: Final = "(left out)"

Fields = dict[str, Any]

_SECRETS: Final[dict[type, str]] = {m.AuthText: "auth_password", m.AuthMd5: "auth_digest"}
"""Login data -> its secret field."""

_ENUMS: Final[dict[tuple[str, str], type[IntEnum]]] = {
    ("", "error"): ErrorCode,
    ("", "auth_type"): AuthType,
    ("", "addr_type"): AddressType,
    ("", "addr_types"): AddressType,
    ("", "tape_op"): TapeOperation,
    ("", "ftype"): FileType,
    ("", "fs_type"): FsType,
    ("", "operation"): DataOperation,
    ("", "level"): LogLevel,
    ("", "log_type"): LogType,
    ("", "recovery_status"): RecoveryStatus,
    ("TapeOpenRequest", "mode"): TapeMode,
    ("MoverListenRequest", "mode"): MoverMode,
    ("MoverConnectRequest", "mode"): MoverMode,
    ("MoverGetStateReply", "mode"): MoverMode,
    ("MoverGetStateReply", "state"): MoverState,
    ("MoverGetStateReply", "halt_reason"): MoverHaltReason,
    ("DataGetStateReply", "state"): DataState,
    ("DataGetStateReply", "halt_reason"): DataHaltReason,
    ("DataGetStateReply", "pause_reason"): DataPauseReason,
    ("MoverGetStateReply", "pause_reason"): MoverPauseReason,
    ("NotifyPausedPost", "reason"): DataPauseReason,
    ("NotifyConnectionStatusPost", "reason"): ConnectionStatusReason,
    ("NotifyDataHaltedPost", "reason"): DataHaltReason,
    ("NotifyMoverHaltedPost", "reason"): MoverHaltReason,
    ("NotifyMoverPausedPost", "reason"): MoverPauseReason,
}
"""(struct or "" for any, field) -> the enum of its numbers."""


def blank(login: m.AuthData) -> m.AuthData:
    """Login data without its secret."""
    match login:
        case m.AuthText(auth_id=auth_id):
            return m.AuthText(auth_id, b"")
        case m.AuthMd5(auth_id=auth_id):
            return m.AuthMd5(auth_id, bytes(16))
        case _:
            return login


@cache
def _arms() -> frozenset[type]:
    """Structs that are arms of a union: their type is part of what they say."""
    found: set[type] = set()
    seen: set[type] = set()
    todo: list[Any] = [body for row in ROWS.values() for body in (row.request, row.reply) if body is not None]
    while todo:
        struct = todo.pop()
        if struct in seen:
            continue
        seen.add(struct)
        for hint in get_type_hints(struct, include_extras=True).values():
            element = get_args(hint)[0] if get_origin(hint) is tuple else hint
            for mark in getattr(element, "__metadata__", ()):
                if isinstance(mark, Arms):
                    found |= set(mark.arms.values())
                    todo += mark.arms.values()
            if isinstance(element, type) and issubclass(element, msgspec.Struct):
                todo.append(element)
    return frozenset({*found, m.UnknownArm, m.FcAddress})


def fields_of(value: msgspec.Struct) -> Fields:
    """The fields of a body, or of what is in one, in wire order."""
    kind = type(value)
    fields: Fields = {"type": kind.__name__} if kind in _arms() else {}
    for name in kind.__struct_fields__:
        if _SECRETS.get(kind) == name:
            fields[name] = LEFT_OUT
            continue
        fields[name] = _shown(getattr(value, name), _enum_of(kind.__name__, name))
    return fields


@cache
def _enum_of(struct: str, field: str) -> type[IntEnum] | None:
    return _ENUMS.get((struct, field)) or _ENUMS.get(("", field))


def _shown(value: Any, enum: type[IntEnum] | None) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, tuple):
        return [_shown(each, enum) for each in value]
    if isinstance(value, msgspec.Struct):
        return fields_of(value)
    return value if enum is None else named(enum, value)


def named(enum: type[IntEnum], value: int) -> str | int:
    """The name of a number, or the number where it has none."""
    try:
        return enum(value).name
    except ValueError:
        return int(value)


def _text(value: bytes) -> str | dict[str, Any]:
    """Bytes as text where they are text, in hex where they are short, else by length and digest."""
    if len(value) <= TEXT_BYTES_MAX:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
        return text if text.isprintable() or all(c.isprintable() or c in "\n\t" for c in text) else {"hex": value.hex()}
    return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
