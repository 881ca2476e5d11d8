"""Extensions over the wire, against a running server."""

import pytest

from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode
from mover.ndmp.extensions import CAE
from mover.ndmp.messages import Body
from tests.control.conftest import LOGIN
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Server

TEST = 0x7FF0


def chosen(*pairs: tuple[int, int]) -> m.ConfigSetExtListRequest:
    return m.ConfigSetExtListRequest(tuple(m.SelectedExt(*pair) for pair in pairs))


@pytest.mark.parametrize("version", [1, 2])
def test_listed_chosen_and_used(server: Server, version: int) -> None:
    with NdmpClient(server.address, login=LOGIN) as client:
        assert client.error(chosen()) == ErrorCode.PRECONDITION_ERR
        listed = client.ok(m.ConfigGetExtListRequest())
        assert listed == m.ConfigGetExtListReply(0, (m.ExtClass(CAE, (1,)), m.ExtClass(TEST, (1, 2))))
        assert client.error(chosen((0x2050, 3), (0x2051, 1))) == ErrorCode.CLASS_NOT_SUPPORTED
        client.ok(chosen((TEST, version)))
        client.protocol.extensions = {TEST: version}
        for length in (0, 5, 100_000):
            echo = client.ok(m.TestEchoRequest(b"x" * length, 9))
            assert echo == m.TestEchoReply(0, b"x" * length, 9 if version == 2 else 0)
        refused: list[Body] = [m.ConfigGetExtListRequest(), chosen(), chosen((TEST, version))]
        assert {client.error(request) for request in refused} == {ErrorCode.EXT_DN_ILLEGAL}
        assert client.ok(m.TestEchoRequest(b"still")) == m.TestEchoReply(0, b"still")


def test_used_without_a_negotiation(server: Server) -> None:
    with NdmpClient(server.address) as client:
        for request in (m.TestEchoRequest(b""), m.ConfigGetExtListRequest(), chosen()):
            assert client.error(request) == ErrorCode.NOT_AUTHORIZED_ERR
        client.log_in(LOGIN, "md5")
        assert client.ok(m.TestEchoRequest(b"hello")) == m.TestEchoReply(0, b"hello")
        assert client.error(m.ConfigGetExtListRequest()) == ErrorCode.EXT_DN_ILLEGAL


def test_no_extensions_chosen(server: Server) -> None:
    with NdmpClient(server.address, login=LOGIN) as client:
        client.ok(m.ConfigGetExtListRequest())
        client.ok(chosen())
        assert client.error(m.TestEchoRequest(b"")) == ErrorCode.NOT_SUPPORTED_ERR


@pytest.mark.parametrize("version", [2, 3])
def test_older_versions_have_none(server: Server, version: int) -> None:
    with NdmpClient(server.address, login=LOGIN, version=version) as client:
        client.protocol.version = 4  # spelled as version 4 has them
        for request in (m.ConfigGetExtListRequest(), chosen((TEST, 1)), m.TestEchoRequest(b"")):
            assert client.error(request) == ErrorCode.NOT_SUPPORTED_ERR
