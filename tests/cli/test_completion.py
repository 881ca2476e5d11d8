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
from click.shell_completion import BashComplete, get_completion_class

from mover.admin.messages import Failed, Reply, encode_reply
from mover.admin.options import OptionsReply, OptionStatus
from mover.admin.sessions import SessionStatus, StatusReply
from mover.admin.tapes import CartridgeStatus, DriveStatus, TapeShowReply
from mover.cli import completion
from mover.cli.completion import MENDED, SHELLS, VARIABLE, completion_script
from mover.cli.main import main
from tests.support import peers
from tests.support.documents import code_of
from tests.support.servers import mover_command
from tests.support.terminals import Terminal

TIMEOUT_S = 60
PATH = f"{Path(mover_command()[0]).parent}:{os.environ['PATH']}"


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
        env={**os.environ, "PATH": PATH},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert (told.stdout, told.stderr) == ("load\n", "")


@pytest.mark.slow
def test_bash_completes_by_the_line_of_the_document() -> None:
    (line,) = code_of("install.md", "Completion")
    function = "$(complete -p mover | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    told = subprocess.run(
        ["bash", "--norc", "-ec", f"{line}\nCOMP_WORDS=(mover sta); COMP_CWORD=1\n{function} mover\necho $COMPREPLY"],
        env={**os.environ, "PATH": PATH}, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert (told.stdout, told.stderr) == ("status\n", "")


@pytest.mark.slow
@pytest.mark.peer("fish")
def test_fish_completes_by_its_script(tmp_path: Path) -> None:
    (tmp_path / "mover.fish").write_text(completion_script("fish"))
    (tmp_path / "a file").touch()

    def offers(line: str) -> list[str]:
        told = subprocess.run(
            [peers.require("fish"), "--no-config", "-c", 'source mover.fish; complete --do-complete "$argv"', line],
            env={**os.environ, "PATH": PATH, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}, cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
        )  # fmt: skip
        assert told.stderr == ""
        return [offer for offer in told.stdout.splitlines() if offer]

    assert offers("mover tape lo") == ["load\tPut a cartridge into DRIVE, such as..."]
    watch = "Look again and again, until Ctrl-C; with --json a document a line."
    assert offers("mover status --wa") == [f"--watch\t{watch}"]
    assert offers("mover serve --config a") == ["a file"]
    assert offers("mover tape ls a") == ["a file"]
    assert offers("mover tape no-such") == []


@pytest.mark.slow
@pytest.mark.peer("zsh", "tmux")
def test_zsh_completes_by_its_script(tmp_path: Path) -> None:
    """As the package installs it: a function that is loaded when it is needed; and a TAB is pressed."""
    (tmp_path / "_mover").write_text(completion_script("zsh"))
    (tmp_path / "a file").touch()
    environment = {"PATH": PATH, "PS1": "prompt: ", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path)}
    with Terminal([str(peers.require("zsh")), "-f", "-i"], 100, 30, environment) as terminal:
        terminal.wait_for("prompt:")
        terminal.press(f"cd {tmp_path}; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u; clear", "Enter")
        terminal.wait_for(lambda screen: screen.startswith("prompt:") and "fpath" not in screen)
        for typed, seen in (
            ("mover tape lo", "mover tape load"),
            ("mover tape load DRIVE --barc", "mover tape load DRIVE --barcode"),
            ("mover serve --config a", r"mover serve --config a\ file"),
        ):
            press_tab(terminal, typed)
            terminal.wait_for(f"prompt: {seen}\n")
            terminal.press("C-u")
            terminal.wait_for(lambda screen: "mover" not in screen)
        press_tab(terminal, "mover tape load x --")
        screen = terminal.wait_for("-- Print one JSON document.")
        assert [line.split()[0] for line in screen.splitlines()[1:5]] == [
            "--barcode", "--admin-socket", "--json", "--help",
        ]  # fmt: skip
        terminal.press("C-u", "exit", "Enter")
        terminal.wait_for("ended with 0")


def press_tab(terminal: Terminal, line: str) -> None:
    """Behind a line that is on the screen: the shell lists nothing while more is being typed."""
    terminal.press(line)
    terminal.wait_for(f"prompt: {line}\n")
    terminal.press("Tab")


@pytest.mark.parametrize("shell", MENDED)
def test_what_is_mended_is_still_in_clicks_script(shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    for theirs, ours in MENDED[shell].items():
        assert theirs in kind.source_template
        assert ours in completion_script(shell)
