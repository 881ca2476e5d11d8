"""The message tables: which messages each version has, their bodies, and which are taken before a login.

Names are those of the version. A row's bodies are internal structs; `mover.ndmp.edge` knows their wire forms.
Source: NDMPv4 section 3; NDMPv1 section 2.8, NDMPv2, NDMPv3; before login: NDMPv4 section 2.7. Version 1 denies "most"
messages without a login (2.7); CONFIG_GET_HOST_INFO, which carries its login methods, must be had before.
"""

from enum import StrEnum
from typing import Final

import msgspec

from mover.ndmp import messages as m
from mover.ndmp.enums import MessageCode


class Kind(StrEnum):
    """How a message is answered."""

    REQUEST = "request"  # exactly one reply
    NO_REPLY = "no-reply"  # CONNECT_CLOSE
    POST = "post"  # sent by the server, never answered


class Row(msgspec.Struct, frozen=True):
    """One message of one version; for a post `request` is its body."""

    name: str
    code: MessageCode
    kind: Kind
    request: type[m.Body]
    reply: type[m.Body] | None
    needs_authentication: bool


# name, versions, versions that take it before a login, request, reply
_REQUESTS: Final[tuple[tuple[str, str, str, type[m.Body], type[m.Body]], ...]] = (
    ("CONNECT_OPEN", "1234", "1234", m.ConnectOpenRequest, m.ConnectOpenReply),
    ("CONNECT_AUTH", "1", "1", m.ConnectClientAuthRequest, m.ConnectClientAuthReply),
    ("CONNECT_CLIENT_AUTH", "234", "234", m.ConnectClientAuthRequest, m.ConnectClientAuthReply),
    ("CONNECT_SERVER_AUTH", "234", "", m.ConnectServerAuthRequest, m.ConnectServerAuthReply),
    ("CONFIG_GET_HOST_INFO", "1234", "12", m.ConfigGetHostInfoRequest, m.ConfigGetHostInfoReply),
    ("CONFIG_GET_BUTYPE_ATTR", "12", "2", m.ConfigGetButypeAttrRequest, m.ConfigGetButypeAttrReply),
    ("CONFIG_GET_MOVER_TYPE", "2", "2", m.ConfigGetConnectionTypeRequest, m.ConfigGetConnectionTypeReply),
    ("CONFIG_GET_CONNECTION_TYPE", "34", "", m.ConfigGetConnectionTypeRequest, m.ConfigGetConnectionTypeReply),
    ("CONFIG_GET_AUTH_ATTR", "234", "234", m.ConfigGetAuthAttrRequest, m.ConfigGetAuthAttrReply),
    ("CONFIG_GET_BUTYPE_INFO", "34", "", m.ConfigGetButypeInfoRequest, m.ConfigGetButypeInfoReply),
    ("CONFIG_GET_FS_INFO", "34", "", m.ConfigGetFsInfoRequest, m.ConfigGetFsInfoReply),
    ("CONFIG_GET_TAPE_INFO", "34", "", m.ConfigGetTapeInfoRequest, m.ConfigGetTapeInfoReply),
    ("CONFIG_GET_SCSI_INFO", "34", "", m.ConfigGetScsiInfoRequest, m.ConfigGetScsiInfoReply),
    ("CONFIG_GET_SERVER_INFO", "34", "34", m.ConfigGetServerInfoRequest, m.ConfigGetServerInfoReply),
    ("CONFIG_SET_EXT_LIST", "4", "", m.ConfigSetExtListRequest, m.ConfigSetExtListReply),
    ("CONFIG_GET_EXT_LIST", "4", "", m.ConfigGetExtListRequest, m.ConfigGetExtListReply),
    ("SCSI_OPEN", "1234", "", m.ScsiOpenRequest, m.ScsiOpenReply),
    ("SCSI_CLOSE", "1234", "", m.ScsiCloseRequest, m.ScsiCloseReply),
    ("SCSI_GET_STATE", "1234", "", m.ScsiGetStateRequest, m.ScsiGetStateReply),
    ("SCSI_SET_TARGET", "123", "", m.ScsiSetTargetRequest, m.ScsiSetTargetReply),
    ("SCSI_RESET_DEVICE", "1234", "", m.ScsiResetDeviceRequest, m.ScsiResetDeviceReply),
    ("SCSI_RESET_BUS", "123", "", m.ScsiResetBusRequest, m.ScsiResetBusReply),
    ("SCSI_EXECUTE_CDB", "1234", "", m.ScsiExecuteCdbRequest, m.ScsiExecuteCdbReply),
    ("TAPE_OPEN", "1234", "", m.TapeOpenRequest, m.TapeOpenReply),
    ("TAPE_CLOSE", "1234", "", m.TapeCloseRequest, m.TapeCloseReply),
    ("TAPE_GET_STATE", "1234", "", m.TapeGetStateRequest, m.TapeGetStateReply),
    ("TAPE_MTIO", "1234", "", m.TapeMtioRequest, m.TapeMtioReply),
    ("TAPE_WRITE", "1234", "", m.TapeWriteRequest, m.TapeWriteReply),
    ("TAPE_READ", "1234", "", m.TapeReadRequest, m.TapeReadReply),
    ("TAPE_SET_RECORD_SIZE", "1", "", m.TapeSetRecordSizeRequest, m.TapeSetRecordSizeReply),
    ("TAPE_EXECUTE_CDB", "1234", "", m.TapeExecuteCdbRequest, m.TapeExecuteCdbReply),
    ("DATA_GET_STATE", "1234", "", m.DataGetStateRequest, m.DataGetStateReply),
    ("DATA_START_BACKUP", "1234", "", m.DataStartBackupRequest, m.DataStartBackupReply),
    ("DATA_START_RECOVER", "1234", "", m.DataStartRecoverRequest, m.DataStartRecoverReply),
    ("DATA_ABORT", "1234", "", m.DataAbortRequest, m.DataAbortReply),
    ("DATA_GET_ENV", "1234", "", m.DataGetEnvRequest, m.DataGetEnvReply),
    ("DATA_STOP", "1234", "", m.DataStopRequest, m.DataStopReply),
    ("DATA_CONTINUE", "1", "", m.DataContinueRequest, m.DataContinueReply),
    ("DATA_LISTEN", "34", "", m.DataListenRequest, m.DataListenReply),
    ("DATA_CONNECT", "34", "", m.DataConnectRequest, m.DataConnectReply),
    # v2, v3: an extension of NDMJOB, which lists a tape by it (messages.md section 1)
    ("DATA_START_RECOVER_FILEHIST", "234", "", m.DataStartRecoverFilehistRequest, m.DataStartRecoverFilehistReply),
    ("MOVER_GET_STATE", "234", "", m.MoverGetStateRequest, m.MoverGetStateReply),
    ("MOVER_LISTEN", "234", "", m.MoverListenRequest, m.MoverListenReply),
    ("MOVER_CONTINUE", "234", "", m.MoverContinueRequest, m.MoverContinueReply),
    ("MOVER_ABORT", "234", "", m.MoverAbortRequest, m.MoverAbortReply),
    ("MOVER_STOP", "234", "", m.MoverStopRequest, m.MoverStopReply),
    ("MOVER_SET_WINDOW", "234", "", m.MoverSetWindowRequest, m.MoverSetWindowReply),
    ("MOVER_READ", "234", "", m.MoverReadRequest, m.MoverReadReply),
    ("MOVER_CLOSE", "234", "", m.MoverCloseRequest, m.MoverCloseReply),
    ("MOVER_SET_RECORD_SIZE", "234", "", m.MoverSetRecordSizeRequest, m.MoverSetRecordSizeReply),
    ("MOVER_CONNECT", "34", "", m.MoverConnectRequest, m.MoverConnectReply),
)

# name, versions, body
_POSTS: Final[tuple[tuple[str, str, type[m.Body]], ...]] = (
    ("NOTIFY_PAUSED", "1", m.NotifyPausedPost),
    ("NOTIFY_HALTED", "1", m.NotifyDataHaltedPost),
    ("NOTIFY_DATA_HALTED", "234", m.NotifyDataHaltedPost),
    ("NOTIFY_CONNECTED", "123", m.NotifyConnectionStatusPost),
    ("NOTIFY_CONNECTION_STATUS", "4", m.NotifyConnectionStatusPost),
    ("NOTIFY_MOVER_HALTED", "234", m.NotifyMoverHaltedPost),
    ("NOTIFY_MOVER_PAUSED", "234", m.NotifyMoverPausedPost),
    ("NOTIFY_DATA_READ", "234", m.NotifyDataReadPost),
    ("LOG_LOG", "12", m.LogMessagePost),
    ("LOG_DEBUG", "12", m.LogMessagePost),
    # version 1 has the number of LOG_FILE and no layout for it (2.8): nothing to send
    ("LOG_FILE", "234", m.LogFilePost),
    ("LOG_MESSAGE", "34", m.LogMessagePost),
    ("FH_ADD_UNIX", "1", m.FhAddFilePost),
    ("FH_ADD_UNIX_PATH", "2", m.FhAddFilePost),
    ("FH_ADD_UNIX_DIR", "12", m.FhAddDirPost),
    ("FH_ADD_UNIX_NODE", "12", m.FhAddNodePost),
    ("FH_ADD_FILE", "34", m.FhAddFilePost),
    ("FH_ADD_DIR", "34", m.FhAddDirPost),
    ("FH_ADD_NODE", "34", m.FhAddNodePost),
)

# name, versions of its class, request, reply; all need a login
_EXTENSIONS: Final[tuple[tuple[str, str, type[m.Body], type[m.Body]], ...]] = (
    ("CAB_DATA_CONN_PREPARE", "1", m.CabDataConnPrepareRequest, m.CabDataConnPrepareReply),
    ("TEST_ECHO", "12", m.TestEchoRequest, m.TestEchoReply),
)  # fmt: skip

VERSIONS: Final = (1, 2, 3, 4)
EXTENSIONS_FROM: Final = 4
"""The first version that has extensions."""
POST_INTERFACES: Final = (0x05, 0x06, 0x07)
"""High bytes of message numbers that only servers send: NOTIFY, LOG, file history."""


def _build() -> dict[tuple[int, int], Row]:
    table: dict[tuple[int, int], Row] = {}
    for version in VERSIONS:
        digit = str(version)
        close = MessageCode.CONNECT_CLOSE
        table[version, close] = Row(close.name, close, Kind.NO_REPLY, m.ConnectCloseRequest, None, False)
        for name, versions, before_login, request, reply in _REQUESTS:
            if digit in versions:
                code = MessageCode[name]
                table[version, code] = Row(name, code, Kind.REQUEST, request, reply, digit not in before_login)
        for name, versions, post in _POSTS:
            if digit in versions:
                code = MessageCode[name]
                table[version, code] = Row(name, code, Kind.POST, post, None, False)
    return table


TABLE: Final = _build()
"""(version, message number) -> row; an absent pair does not exist in that version."""

EXTENSION_TABLE: Final = {
    (int(digit), int(MessageCode[name])): Row(name, MessageCode[name], Kind.REQUEST, request, reply, True)
    for name, versions, request, reply in _EXTENSIONS
    for digit in versions
}
"""(version of the class, message number) -> row. An extension has no posts yet."""
ROWS: Final[dict[tuple[int, int], Row]] = {**TABLE, **EXTENSION_TABLE}
"""Both, by the version of the message's class (`mover.ndmp.extensions.layout_version`)."""


def class_of(number: int) -> int:
    """The extension class of a message; 0 = NDMP itself."""
    return number >> 16
