"""A job of version 1 over a running server, by a client that shares no line with it; the slow tests are end to end."""

import ast
from pathlib import Path

from tests.control.conftest import LOGIN
from tests.support import v1_client as v1
from tests.support.servers import Server
from tests.support.v1_client import refusal
from tests.support.v1_jobs import RECORD, back_up, connect, env_of, recover


def test_the_client_is_independent() -> None:
    """Written from the draft: nothing of mover, nothing of our other clients."""
    tree = ast.parse(Path(v1.__file__).read_text())
    modules = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert modules == {"collections.abc", "socket", "struct", "time", "types", "typing", "xdrlib3"}


def test_a_job(server: Server, volume: Path) -> None:
    server.ask("tape", "load", "vtl0/drive0")
    try:
        with connect(server, LOGIN) as client:
            assert client.data_state() == v1.DataState(v1.NOACTION, v1.IDLE, 0, 0, 0, 0, 0, 0, 0, 0)
            saved = back_up(client, env_of(volume / "tree", HIST="y"))
            assert {post.code for post in client.posts} == {v1.LOG_LOG, v1.FH_ADD_UNIX_DIR, v1.FH_ADD_UNIX_NODE}
            recover(client, saved, volume / "recovered")
            assert client.data_state().state == v1.IDLE
            assert refusal(client.stop) == "ILLEGAL_STATE_ERR"
            client.tape_open("vtl0/drive0", v1.READ_MODE)
            client.set_record_size(RECORD)
            assert client.tape_state().record_size == RECORD
    finally:
        server.ask("tape", "unload", "vtl0/drive0")
    assert (volume / "recovered" / "file").read_bytes() == (volume / "tree" / "file").read_bytes()
