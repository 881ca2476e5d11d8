"""Extensions of version 4: their negotiation, cluster aware backup, the class for tests. Source: extensions.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.handlers import data
from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, DataState, ErrorCode

if TYPE_CHECKING:
    from mover.control.connection import Connection


async def get_ext_list(connection: Connection, request: m.ConfigGetExtListRequest) -> m.ConfigGetExtListReply:
    """CONFIG_GET_EXT_LIST: what is offered; not asked for any more once a list was chosen."""
    if error := connection.protocol.extensions.list():
        raise Refusal(error)
    return m.ConfigGetExtListReply(
        class_list=tuple(m.ExtClass(*each) for each in connection.protocol.extensions.offered.items())
    )


async def set_ext_list(connection: Connection, request: m.ConfigSetExtListRequest) -> m.ConfigSetExtListReply:
    """CONFIG_SET_EXT_LIST: once, and behind GET_EXT_LIST."""
    if error := connection.protocol.extensions.choose(request.ndmp_selected_ext):
        raise Refusal(error)
    return m.ConfigSetExtListReply()


async def prepare(connection: Connection, request: m.CabDataConnPrepareRequest) -> m.CabDataConnPrepareReply:
    """CAB_DATA_CONN_PREPARE: the volume is looked for, and the data connection has to be of this type.

    Source: extensions.md 3.1 to 3.3. One for the next operation; another one takes its place. A volume that is with
    another node cannot be read here, and no control connection goes on to that node: that is a precondition error too,
    whose LOG line names the node.
    """
    if request.addr_type not in connection.address_types:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    env = data.environment(connection, request.butype, request.env)
    if env.root is None:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, "the environment names no FILESYSTEM")
    try:
        await data.place_of(connection, env.root)
    except Refusal as refusal:
        if refusal.error == ErrorCode.PRECONDITION_ERR:
            text = f"CAB data connection prepare precondition error: {refusal.text}"
            raise Refusal(ErrorCode.PRECONDITION_ERR, text) from refusal
        raise
    if connection.machines.data.state is not DataState.IDLE:
        raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
    connection.data.prepared = AddressType(request.addr_type)
    return m.CabDataConnPrepareReply()


async def test_echo(connection: Connection, request: m.TestEchoRequest) -> m.TestEchoReply:
    """TEST_ECHO: what was sent, back."""
    return m.TestEchoReply(ErrorCode.NO_ERR, request.echo_msg, request.echo_short)
