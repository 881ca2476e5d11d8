"""Handlers: one function a request. The table maps a request's struct to it; what is absent is NOT_SUPPORTED.

A handler audits in one order (arguments, states, device), then acts; it returns the reply or raises Refusal or the
core's IllegalStateError, and then nothing has changed.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from mover.control.handlers import config, connect, data, extensions, mover, scsi, tape, version_1
from mover.ndmp import messages as m

# Any: each handler takes its own request; the tables pair them.
Handler = Callable[[Any, Any], Awaitable[m.Body]]

HANDLERS: Final[dict[type[m.Body], Handler]] = {
    m.ConnectClientAuthRequest: connect.client_auth,
    m.ConnectServerAuthRequest: connect.server_auth,
    m.ConfigGetHostInfoRequest: config.get_host_info,
    m.ConfigGetConnectionTypeRequest: config.get_connection_type,
    m.ConfigGetAuthAttrRequest: config.get_auth_attr,
    m.ConfigGetButypeAttrRequest: config.get_butype_attr,
    m.ConfigGetButypeInfoRequest: config.get_butype_info,
    m.ConfigGetFsInfoRequest: config.get_fs_info,
    m.ConfigGetTapeInfoRequest: config.get_tape_info,
    m.ConfigGetScsiInfoRequest: config.get_scsi_info,
    m.ConfigGetServerInfoRequest: config.get_server_info,
    m.ConfigGetExtListRequest: extensions.get_ext_list,
    m.ConfigSetExtListRequest: extensions.set_ext_list,
    m.ScsiOpenRequest: scsi.scsi_open,
    m.ScsiCloseRequest: scsi.scsi_close,
    m.ScsiGetStateRequest: scsi.get_state,
    m.ScsiSetTargetRequest: scsi.set_target,
    m.ScsiResetDeviceRequest: scsi.reset_device,
    m.ScsiResetBusRequest: scsi.reset_bus,
    m.ScsiExecuteCdbRequest: scsi.execute_cdb,
    m.TapeOpenRequest: tape.tape_open,
    m.TapeCloseRequest: tape.tape_close,
    m.TapeGetStateRequest: tape.get_state,
    m.TapeMtioRequest: tape.mtio,
    m.TapeWriteRequest: tape.write,
    m.TapeReadRequest: tape.read,
    m.TapeExecuteCdbRequest: tape.execute_cdb,
    m.MoverGetStateRequest: mover.get_state,
    m.MoverSetRecordSizeRequest: mover.set_record_size,
    m.MoverSetWindowRequest: mover.set_window,
    m.MoverListenRequest: mover.listen,
    m.MoverConnectRequest: mover.connect,
    m.MoverReadRequest: mover.read,
    m.MoverContinueRequest: mover.continue_,
    m.MoverCloseRequest: mover.close,
    m.MoverAbortRequest: mover.abort,
    m.MoverStopRequest: mover.stop,
    m.DataGetStateRequest: data.get_state,
    m.DataListenRequest: data.listen,
    m.DataConnectRequest: data.connect,
    m.DataStartBackupRequest: data.start_backup,
    m.DataStartRecoverRequest: data.start_recover,
    m.DataStartRecoverFilehistRequest: data.start_recover_filehist,
    m.DataAbortRequest: data.abort,
    m.DataGetEnvRequest: data.get_env,
    m.DataStopRequest: data.stop,
    m.CabDataConnPrepareRequest: extensions.prepare,
    m.TestEchoRequest: extensions.test_echo,
}

HANDLERS_1: Final[dict[type[m.Body], Handler]] = {
    m.ConfigGetButypeAttrRequest: version_1.get_butype_attr,
    m.TapeGetStateRequest: version_1.get_state,
    m.TapeSetRecordSizeRequest: version_1.set_record_size,
    m.TapeWriteRequest: version_1.write,
    m.TapeReadRequest: version_1.read,
    m.TapeExecuteCdbRequest: version_1.execute_cdb,
    m.DataContinueRequest: version_1.continue_,
}
"""What version 1 has alone, or means differently."""


def handler_of(version: int, request: type[m.Body]) -> Handler | None:
    """The handler of a request in a version; None = there is none."""
    own = HANDLERS_1.get(request) if version == 1 else None
    return own or HANDLERS.get(request)
