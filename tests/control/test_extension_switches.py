"""Extensions that an operator switches off and on: of the node and of each vserver, for new connections, for good."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, Server, write_config

LOGIN = Login("one", "the secret of vs1")
NODE = Login("ndmp", "the secret of the node")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    extra = (
        '[[lif]]\nname = "data1"\nport = 0\nrole = "data"\nvserver = "vs1"\n[[vserver]]\nname = "vs1"\n'
        f'[[user]]\nname = "{LOGIN.user}"\nrole = "vsadmin"\nvservers = ["vs1"]\npassword = "{LOGIN.password}"\n'
    )
    with Server(write_config(directory, NODE, extra=extra)) as running:
        yield running


def connect(server: Server, lif: str = "data1") -> NdmpClient:
    (found,) = [each for each in server.ready.lifs if each.name == lif]
    return NdmpClient(f"{found.address}:{found.port}", login=LOGIN if lif == "data1" else NODE)


def offered(server: Server, lif: str = "data1") -> set[int]:
    with connect(server, lif) as client:
        reply = client.ok(m.ConfigGetExtListRequest())
        assert isinstance(reply, m.ConfigGetExtListReply)
        return {each.ext_class_id for each in reply.class_list}


def test_an_extension_is_switched_off_and_on(server: Server) -> None:
    def switch(number: str, to: str) -> object:
        return server.ask("extensions", "modify", number, to, "--vserver", "vs1", "--advanced")["names"]

    with connect(server) as before:
        everything = offered(server)
        assert {0x2052, 0x7FF0} <= everything
        try:
            assert switch("7ff0", "off") == ["is-extension-0x7ff0-enabled"]
            assert offered(server) == everything - {0x7FF0}
            assert offered(server, "only") == everything, "of the vserver alone"
            with connect(server) as client:  # nor is it there without a negotiation
                assert client.error(m.TestEchoRequest(b"?")) == ErrorCode.NOT_SUPPORTED_ERR
                client.ok(m.ConfigGetExtListRequest())
                wanted = m.ConfigSetExtListRequest((m.SelectedExt(0x7FF0, 1),))
                assert client.error(wanted) == ErrorCode.CLASS_NOT_SUPPORTED
            before.ok(m.TestEchoRequest(b"?"))
            shown_all = server.ask("extensions", "show", "--vserver", "*", "--advanced")["extensions"]
            rows = cast("list[dict[str, object]]", shown_all)
            assert [row["vserver"] for row in rows if row["class"] == "0x7ff0"] == ["", "vs1"]
            assert [(row["class"], row["origin"]) for row in rows if not row["enabled"]] == [("0x7ff0", "modified")]
            switch("7ff0", "on")
            switch("0x2052", "off")
            assert offered(server) == everything - {0x2052}
        finally:
            switch("7ff0", "default")
            switch("2052", "default")
        assert offered(server) == everything


@pytest.mark.slow
def test_a_switched_extension_outlasts_a_restart(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    config = write_config(tmp_path / "own", NODE)
    with Server(config) as server:
        server.ask("extensions", "modify", "0x7FF0", "off", "--advanced")
        assert 0x7FF0 not in offered(server, "only")
    with Server(config) as server:
        assert 0x7FF0 not in offered(server, "only")
        with connect(server, "only") as client:
            assert client.error(m.TestEchoRequest(b"?")) == ErrorCode.NOT_SUPPORTED_ERR
