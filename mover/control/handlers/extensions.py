"""Extensions of version 4: their negotiation, and the class for tests. Source: extensions.md section 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode
from mover.ndmp.extensions import OFFERED

if TYPE_CHECKING:
    from mover.control.connection import Connection


async def get_ext_list(connection: Connection, request: m.ConfigGetExtListRequest) -> m.ConfigGetExtListReply:
    """CONFIG_GET_EXT_LIST: what is offered; not asked for any more once a list was chosen."""
    if error := connection.protocol.extensions.list():
        raise Refusal(error)
    return m.ConfigGetExtListReply(class_list=tuple(m.ExtClass(*each) for each in OFFERED.items()))


async def set_ext_list(connection: Connection, request: m.ConfigSetExtListRequest) -> m.ConfigSetExtListReply:
    """CONFIG_SET_EXT_LIST: once, and behind GET_EXT_LIST."""
    if error := connection.protocol.extensions.choose(request.ndmp_selected_ext):
        raise Refusal(error)
    return m.ConfigSetExtListReply()


async def test_echo(connection: Connection, request: m.TestEchoRequest) -> m.TestEchoReply:
    """TEST_ECHO: what was sent, back."""
    return m.TestEchoReply(ErrorCode.NO_ERR, request.echo_msg, request.echo_short)
