"""The client over a real unix socket, and everything that may stand in for a control process."""

import socket
from pathlib import Path

import pytest

from mover.admin import AdminClient, NoControlProcessError, RefusedError
from mover.admin.messages import Done, Failed, Reply, Request
from mover.admin.sessions import Kill
from mover.admin.tapes import TapeShow
from tests.admin.control import FakeControl


def test_requests_and_replies_in_order(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        assert isinstance(request, Kill)
        return Done(f"ended {request.session_id}")

    path = str(tmp_path / "admin.sock")
    with FakeControl(path, answer) as control, AdminClient(path, 10) as client:
        assert client.ask(Kill(1)) == Done("ended 1")
        assert client.ask(Kill(2)) == Done("ended 2")
    assert control.requests == [Kill(1), Kill(2)]


def test_a_refusal_carries_code_and_text(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with FakeControl(path, lambda _: Failed("not-found", "no session 9")), AdminClient(path, 10) as client:
        with pytest.raises(RefusedError, match=r"^no session 9$") as caught:
            client.ask(Kill(9))
        assert caught.value.code == "not-found"


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"", "ended the connection"), (b"hello\n", "not a message of the admin socket")],
)
def test_someone_else_at_the_socket(tmp_path: Path, sent: bytes, text: str) -> None:
    path = str(tmp_path / "admin.sock")
    with (
        FakeControl(path, lambda _: sent),
        AdminClient(path, 10) as client,
        pytest.raises(NoControlProcessError, match=text),
    ):
        client.ask(TapeShow())


def test_a_silent_control_process(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with (
            AdminClient(path, 0.01) as client,
            pytest.raises(NoControlProcessError, match="does not answer"),
        ):
            client.ask(TapeShow())


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NoControlProcessError, match=r"no control process at .*: No such file or directory"):
        AdminClient(str(tmp_path / "admin.sock"))
