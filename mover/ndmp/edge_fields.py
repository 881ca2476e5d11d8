"""How single fields change between the internal form and one version: attribute bits, reasons, addresses, names.

Each pair of functions is a way out (internal to wire) and a way in. Used by the rows of `mover.ndmp.edge`.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AuthType,
    ButypeAttribute,
    ButypeAttributeV2,
    ButypeAttributeV3,
    DataHaltReason,
    DataState,
    ErrorCode,
    FsType,
    MoverHaltReason,
    MoverPauseReason,
    RecoveryStatus,
    TapeAttribute,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.errors import XdrEncodeError
from mover.ndmp.messages import v1, v2

# Any: a conversion takes and gives whatever type its field has; the rows of the edge pair them with fields
Convert = Callable[[Any], Any]
Pair = tuple[Convert, Convert]

NOT_IN_VERSION: Final = -1
"""Value of an enum that the session's version does not have: no enum has it, so the handler refuses it."""
RAW1_V3: Final = 0x7FFF_FFFF
"""A second RAW mode seen in products of version 3."""


def same(value: Any) -> Any:
    return value


# ---- backup type attributes: v2 says what is NOT possible; v3 has one bit for history of any form

_HISTORY = ButypeAttribute.BACKUP_FH_FILE | ButypeAttribute.BACKUP_FH_DIR
_V3_BITS = 0x01FE  # BACKUP_FILELIST to RECOVER_UTF8, the same in v3 and v4
_NEGATIVE: Final = (
    (ButypeAttribute.BACKUP_FILELIST, ButypeAttributeV2.NO_BACKUP_FILELIST),
    (_HISTORY, ButypeAttributeV2.NO_BACKUP_FHINFO),
    (ButypeAttribute.RECOVER_FILELIST, ButypeAttributeV2.NO_RECOVER_FILELIST),
    (ButypeAttribute.RECOVER_DIRECT, ButypeAttributeV2.NO_RECOVER_FHINFO),
    (ButypeAttribute.RECOVER_INCREMENTAL, ButypeAttributeV2.NO_RECOVER_INC_ONLY),
)


def attrs_out_v2(attrs: int) -> int:
    return sum(int(negative) for able, negative in _NEGATIVE if not attrs & able)


def attrs_in_v2(attrs: int) -> int:
    return sum(int(able) for able, negative in _NEGATIVE if not attrs & negative)


def attrs_out_v3(attrs: int) -> int:
    history = ButypeAttributeV3.BACKUP_FILE_HISTORY if attrs & _HISTORY else 0
    return attrs & _V3_BITS | history


def attrs_in_v3(attrs: int) -> int:
    return attrs & _V3_BITS | (_HISTORY if attrs & ButypeAttributeV3.BACKUP_FILE_HISTORY else 0)


def butypes_out_v3(butypes: tuple[m.ButypeInfo, ...]) -> tuple[m.ButypeInfo, ...]:
    return tuple(msgspec.structs.replace(butype, attrs=attrs_out_v3(butype.attrs)) for butype in butypes)


def butypes_in_v3(butypes: tuple[m.ButypeInfo, ...]) -> tuple[m.ButypeInfo, ...]:
    return tuple(msgspec.structs.replace(butype, attrs=attrs_in_v3(butype.attrs)) for butype in butypes)


def tapes_out_v3(tapes: tuple[m.DeviceInfo, ...]) -> tuple[m.DeviceInfo, ...]:
    """Version 3 has no RAW mode to announce."""
    return tuple(
        m.DeviceInfo(
            tape.model,
            tuple(msgspec.structs.replace(name, attr=name.attr & ~TapeAttribute.RAW) for name in tape.caplist),
        )
        for tape in tapes
    )


# ---- enums that grew


def tape_mode_in_v2(mode: int) -> int:
    return mode if mode in {TapeMode.READ, TapeMode.RDWR} else NOT_IN_VERSION


def tape_mode_in_v3(mode: int) -> int:
    return TapeMode.RAW if mode == RAW1_V3 else mode


def tape_op_in_v3(operation: int) -> int:
    return NOT_IN_VERSION if operation == TapeOperation.TUR else operation


def pause_reason_out_v2(reason: int) -> int:
    """A full window is told as a filemark: version 2 has no EOW, and its clients expect EOF."""
    return MoverPauseReason.EOF if reason == MoverPauseReason.EOW else reason


def halt_reason_out_v3(reason: int) -> int:
    return MoverHaltReason.INTERNAL_ERROR if reason == MoverHaltReason.MEDIA_ERROR else reason


def blank_tape_out_v3(error: int) -> int:
    """Blank tape on TAPE_READ is a filemark before version 4."""
    return ErrorCode.EOF_ERR if error == ErrorCode.EOM_ERR else error


_STATUS_TO_ERROR: Final[dict[int, ErrorCode]] = {
    RecoveryStatus.SUCCESSFUL: ErrorCode.NO_ERR,
    RecoveryStatus.FAILED_PERMISSION: ErrorCode.PERMISSION_ERR,
    RecoveryStatus.FAILED_NOT_FOUND: ErrorCode.FILE_NOT_FOUND_ERR,
    RecoveryStatus.FAILED_NO_DIRECTORY: ErrorCode.FILE_NOT_FOUND_ERR,
    RecoveryStatus.FAILED_OUT_OF_MEMORY: ErrorCode.NO_MEM_ERR,
    RecoveryStatus.FAILED_IO_ERROR: ErrorCode.IO_ERR,
}
_ERROR_TO_STATUS: Final[dict[int, RecoveryStatus]] = {
    ErrorCode.NO_ERR: RecoveryStatus.SUCCESSFUL,
    ErrorCode.PERMISSION_ERR: RecoveryStatus.FAILED_PERMISSION,
    ErrorCode.NOT_AUTHORIZED_ERR: RecoveryStatus.FAILED_PERMISSION,
    ErrorCode.FILE_NOT_FOUND_ERR: RecoveryStatus.FAILED_NOT_FOUND,
    ErrorCode.NO_MEM_ERR: RecoveryStatus.FAILED_OUT_OF_MEMORY,
    ErrorCode.IO_ERR: RecoveryStatus.FAILED_IO_ERROR,
}


def recovery_status_out_v3(status: int) -> int:
    return _STATUS_TO_ERROR.get(status, ErrorCode.UNDEFINED_ERR)


def recovery_status_in_v3(error: int) -> int:
    return _ERROR_TO_STATUS.get(error, RecoveryStatus.FAILED_UNDEFINED_ERROR)


def entry_out_v3(entry: bytes) -> bytes:
    """Before version 4 a newline ends a message."""
    return entry if entry.endswith(b"\n") else entry + b"\n"


def entry_in_v3(entry: bytes) -> bytes:
    return entry.removesuffix(b"\n")


# ---- addresses: before version 4 one TCP endpoint without environment


def address_out_v3(address: msgspec.Struct | None) -> msgspec.Struct:
    match address:
        case m.TcpAddress(endpoints=(first, *_)):
            return v2.SingleTcpAddress(first.ip_addr, first.port)
        case m.TcpAddress():
            raise XdrEncodeError("a TCP address without an endpoint")
        case None:
            return m.LOCAL
        case _:
            return address


def address_in_v3(address: msgspec.Struct) -> msgspec.Struct:
    match address:
        case v2.SingleTcpAddress(ip_addr=ip_addr, port=port):
            return m.tcp_address(ip_addr, port)
        case _:
            return address


# ---- version 1: its DATA machine has a state more and numbers of its own

STATES_V1: Final[dict[int, int]] = {
    DataState.IDLE: 0,
    DataState.ACTIVE: 1,
    DataState.PAUSED: 2,
    DataState.HALTED: 3,
}
"""Internal state -> version 1's. Source: NDMPv1 3.5.1."""
NO_SPLIT_V1: Final = 5
"""Version 1 describes NO_SPLIT and leaves it out of the enum (3.5.1); XDR files in use give it the next number."""
HALT_REASONS_V1: Final[dict[int, int]] = {
    DataHaltReason.NA: 0,
    DataHaltReason.SUCCESSFUL: 1,
    DataHaltReason.ABORTED: 2,
    DataHaltReason.MEDIA_ERROR: 3,
    DataHaltReason.INTERNAL_ERROR: 4,
    DataHaltReason.NO_SPLIT: NO_SPLIT_V1,
}
"""Internal halt reason -> version 1's. Source: NDMPv1 3.5.1."""
_STATES_IN_V1: Final = {wire: internal for internal, wire in STATES_V1.items()}
_HALT_REASONS_IN_V1: Final = {wire: internal for internal, wire in HALT_REASONS_V1.items()}


def data_state_out_v1(state: int) -> int:
    return STATES_V1.get(state, state)


def data_state_in_v1(state: int) -> int:
    return _STATES_IN_V1.get(state, NOT_IN_VERSION)


def data_halt_out_v1(reason: int) -> int:
    return HALT_REASONS_V1.get(reason, HALT_REASONS_V1[DataHaltReason.INTERNAL_ERROR])


def data_halt_in_v1(reason: int) -> int:
    return _HALT_REASONS_IN_V1.get(reason, DataHaltReason.INTERNAL_ERROR)


def auth_types_out_v1(types: tuple[int, ...]) -> tuple[int, ...]:
    """Version 1 has no MD5: its number is reserved (3.1.2)."""
    return tuple(each for each in types if each != AuthType.MD5)


# ---- nlist


def nlist_out_v1(names: tuple[m.RecoverName, ...]) -> tuple[v1.Name, ...]:
    return tuple(v1.Name(name.original_path, name.destination, 0, name.fh_info) for name in names)


def nlist_in_v1(names: tuple[v1.Name, ...]) -> tuple[m.RecoverName, ...]:
    return tuple(m.RecoverName(name.name, name.dest, fh_info=name.fh_info) for name in names)


def nlist_out_v2(names: tuple[m.RecoverName, ...]) -> tuple[v2.Name, ...]:
    return tuple(v2.Name(name.original_path, name.destination, 0, name.fh_info) for name in names)


def nlist_in_v2(names: tuple[v2.Name, ...]) -> tuple[m.RecoverName, ...]:
    return tuple(m.RecoverName(name.name, name.dest, fh_info=name.fh_info) for name in names)


# ---- file history of versions 1 and 2: one UNIX name, one UNIX stat that holds fh_info


def _stat_out(stats: tuple[m.FileStat, ...], fh_info: int) -> v2.UnixStat:
    for stat in stats:
        if stat.fs_type == FsType.UNIX:
            return v2.UnixStat(
                stat.ftype, stat.mtime, stat.atime, stat.ctime, stat.owner, stat.group, stat.fattr, stat.size,
                fh_info,
            )  # fmt: skip
    raise XdrEncodeError("history of version 2 needs UNIX attributes")


def _stat_in(stat: v2.UnixStat) -> tuple[m.FileStat, ...]:
    return (
        m.FileStat(
            0, FsType.UNIX, stat.ftype, stat.mtime, stat.atime, stat.ctime, stat.uid, stat.gid, stat.mode,
            stat.size,
        ),
    )  # fmt: skip


def _name_out(names: tuple[msgspec.Struct, ...]) -> bytes:
    for name in names:
        if isinstance(name, m.UnixName):
            return name.path
    raise XdrEncodeError("history of version 2 needs a UNIX name")


def files_out_v2(files: tuple[m.File, ...]) -> tuple[v2.UnixPath, ...]:
    return tuple(v2.UnixPath(_name_out(file.names), _stat_out(file.stats, file.fh_info)) for file in files)


def files_in_v2(paths: tuple[v2.UnixPath, ...]) -> tuple[m.File, ...]:
    return tuple(m.File((m.UnixName(path.name),), _stat_in(path.fstat), 0, path.fstat.fh_info) for path in paths)


def dirs_out_v2(dirs: tuple[m.Dir, ...]) -> tuple[v2.UnixDir, ...]:
    return tuple(v2.UnixDir(_name_out(entry.names), entry.node, entry.parent) for entry in dirs)


def dirs_in_v2(dirs: tuple[v2.UnixDir, ...]) -> tuple[m.Dir, ...]:
    return tuple(m.Dir((m.UnixName(entry.name),), entry.node, entry.parent) for entry in dirs)


def nodes_out_v2(nodes: tuple[m.Node, ...]) -> tuple[v2.UnixNode, ...]:
    return tuple(v2.UnixNode(_stat_out(node.stats, node.fh_info), node.node) for node in nodes)


def nodes_in_v2(nodes: tuple[v2.UnixNode, ...]) -> tuple[m.Node, ...]:
    return tuple(m.Node(_stat_in(node.fstat), node.node, node.fstat.fh_info) for node in nodes)
