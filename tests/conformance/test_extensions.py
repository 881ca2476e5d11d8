"""Extensions: a server that has the test class passes, and each way of having it wrong is a failure."""

import pytest

from mover.conformance.options import Options
from mover.conformance.results import Report, Result
from mover.conformance.run import run
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode
from mover.ndmp.extensions import OFFERED
from tests.conformance.fake_server import PASSWORD, USER, FakeServer, Peer, Reply

NAMES = {
    "GET_EXT_LIST twice", "SET_EXT_LIST before GET_EXT_LIST", "SET_EXT_LIST of an unknown class",
    "SET_EXT_LIST of a class twice", "SET_EXT_LIST of an unknown version", "after SET_EXT_LIST both are illegal",
    "TEST_ECHO, version 1 of its class, returns what it is sent",
    "TEST_ECHO, version 2 of its class, returns what it is sent", "TEST_ECHO where its class was not chosen",
    "TEST_ECHO without a negotiation takes the default version", "a message that the test class does not have",
}  # fmt: skip


class Extended(FakeServer):
    """Has the test class; a subclass changes a reply."""

    def handle(self, peer: Peer, body: m.Body) -> Reply | None:
        extensions = peer.protocol.extensions
        match body:
            case m.ConfigGetExtListRequest():
                listed = tuple(m.ExtClass(*each) for each in OFFERED.items())
                return extensions.list() or self.wrong(m.ConfigGetExtListReply(0, listed))
            case m.ConfigSetExtListRequest(chosen):
                return extensions.choose(chosen) or self.wrong(m.ConfigSetExtListReply())
            case m.TestEchoRequest(text, short):
                return self.wrong(m.TestEchoReply(0, text, short))
            case _:
                return peer.handle(body)

    def wrong(self, reply: m.Body) -> Reply:
        return reply


def results(server: FakeServer) -> tuple[Report, dict[str, str]]:
    """The report, and what failed of the checks of extensions."""
    options = Options(
        host="127.0.0.1", port=server.port, user=USER.decode(), password=PASSWORD.decode(), versions=(4,),
        groups=("config",), timeout_s=10,
    )  # fmt: skip
    report = run(options, lambda row: None)
    return report, {row.check: row.detail for row in report.rows if row.result is Result.FAIL and row.check in NAMES}


def test_a_server_that_has_the_test_class() -> None:
    with Extended() as server:
        report, failed = results(server)
    assert failed == {}
    assert {row.check for row in report.rows if row.result is Result.PASS} >= NAMES


def test_a_server_without_extensions() -> None:
    with FakeServer() as server:
        report, failed = results(server)
    assert failed == {}
    assert {row.check for row in report.rows if row.result is Result.NOT_OFFERED} >= NAMES


class OtherWords(Extended):
    def wrong(self, reply: m.Body) -> Reply:
        return m.TestEchoReply(0, reply.echo_msg + b"!") if isinstance(reply, m.TestEchoReply) else reply


class NoEcho(Extended):
    def wrong(self, reply: m.Body) -> Reply:
        return ErrorCode.NOT_SUPPORTED_ERR if isinstance(reply, m.TestEchoReply) else reply


class TwiceListed(Extended):
    def wrong(self, reply: m.Body) -> Reply:
        return m.ConfigGetExtListReply(0, reply.class_list * 2) if isinstance(reply, m.ConfigGetExtListReply) else reply


@pytest.mark.parametrize(
    ("server", "check", "detail"),
    [
        (OtherWords, "TEST_ECHO, version 2 of its class, returns what it is sent", "expected NO_ERR and the 0 bytes"),
        (NoEcho, "TEST_ECHO, version 1 of its class, returns what it is sent", "expected NO_ERR and the 0 bytes"),
        (TwiceListed, "GET_EXT_LIST twice", "expected each class once, got one twice"),
    ],
)
def test_wrong_in_one_way(server: type[Extended], check: str, detail: str) -> None:
    with server() as running:
        _, failed = results(running)
    assert failed[check].startswith(detail)
