"""Completion: the shells' scripts, and names that come from the running control process, or do not."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from mover.admin.messages import Failed, Reply, encode_reply
from mover.admin.options import OptionsReply, OptionStatus
from mover.admin.sessions import SessionStatus, StatusReply
from mover.admin.tapes import CartridgeStatus, DriveStatus, TapeShowReply
from mover.cli import completion
from mover.cli.completion import SHELLS, VARIABLE, completion_script
from mover.cli.main import main
from tests.support.servers import mover_command

TIMEOUT_S = 60


def offered(*words: str) -> list[str]:
    """What a shell offers behind the words, of which the last one is begun."""
    return [item.value for item in BashComplete(main, {}, "mover", VARIABLE).get_completions([*words[:-1]], words[-1])]


@contextmanager
def control(path: Path, reply: Reply | None) -> Iterator[str]:
    """One that answers every request alike, or not at all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:  # shut down
                    return
                with client, client.makefile("rb") as lines:
                    if lines.readline() and reply is not None:
                        client.sendall(encode_reply(reply))
                    lines.readline()  # until the client has gone

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(path)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT_S)


def option(vserver: str) -> OptionStatus:
    return OptionStatus(vserver=vserver, option="enable", value="true", origin="default")


TAPES = TapeShowReply(
    [DriveStatus(name="vtl0/drive0", state="loaded"), DriveStatus(name="nst0", state="closed")],
    [CartridgeStatus(barcode=each, library="vtl0", path=f"/t/{each}.tap") for each in ("A1", "B2")],
)


@pytest.mark.parametrize(
    ("words", "reply", "names"),
    [
        (("tape", "load", ""), TAPES, ["vtl0/drive0", "nst0"]),
        (("tape", "load", "v"), TAPES, ["vtl0/drive0"]),
        (("tape", "load", "nst0", "--barcode", ""), TAPES, ["A1", "B2"]),
        (("backup", "--drive", "n"), TAPES, ["nst0"]),
        (
            ("kill", "--session-id", ""),
            StatusReply([SessionStatus(session_id=7), SessionStatus(session_id=12)]),
            ["7", "12"],
        ),
        (("probe", "--session-id", "1"), StatusReply([SessionStatus(session_id=12)]), ["12"]),
        (
            ("show", "--vserver", ""),
            OptionsReply([option(each) for each in ("", "vs2", "vs1", "vs1")]),
            ["vs1", "vs2"],
        ),
    ],
)
def test_names_are_those_of_the_control_process(
    words: tuple[str, ...], reply: Reply, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "WAIT_S", TIMEOUT_S)
    with control(tmp_path / "admin.sock", reply) as path:
        monkeypatch.setenv("MOVER_ADMIN_SOCKET", path)
        assert offered(*words) == names


def test_a_shell_is_answered_by_the_program(tmp_path: Path) -> None:
    told = subprocess.run(
        mover_command(),
        env={
            **os.environ,
            VARIABLE: "bash_complete",
            "COMP_WORDS": "mover tape load ",
            "COMP_CWORD": "3",
            "MOVER_ADMIN_SOCKET": str(tmp_path / "nobody"),
        },
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert (told.stdout.strip(), told.stderr) == ("", "")  # nobody there is no offer and no word


def test_a_refusal_is_no_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "WAIT_S", TIMEOUT_S)
    with control(tmp_path / "admin.sock", Failed("failed", "not now")) as path:
        monkeypatch.setenv("MOVER_ADMIN_SOCKET", path)
        assert offered("tape", "load", "") == []


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "WAIT_S", 0.05)
    context = click.Context(click.Command("load"))
    context.params["admin_socket"] = str(tmp_path / "admin.sock")
    with control(tmp_path / "admin.sock", None):
        assert completion.drives(context, click.Argument(["drive"]), "") == []


def test_a_configuration_that_cannot_be_used_is_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mover.toml").write_text("wrong")
    monkeypatch.setenv("MOVER_CONFIG", str(tmp_path / "mover.toml"))
    assert completion.sessions(click.Context(click.Command("kill")), click.Argument(["x"]), "") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str) -> None:
    script = completion_script(shell)
    assert f"{VARIABLE}={shell}_complete" in script


def test_bash_takes_its_script_and_completes_commands_by_it() -> None:
    line = f"{completion_script('bash')}\nCOMP_WORDS=(mover tape lo); COMP_CWORD=2\n_mover_completion mover\n"
    told = subprocess.run(
        ["bash", "--norc", "-c", f'{line}echo "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{Path(mover_command()[0]).parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert (told.stdout, told.stderr) == ("load\n", "")
