"""`mover extensions` against a fake control process over a real socket."""

import json

import pytest

from mover.admin.messages import Done, Failed, Reply, Request
from mover.admin.options import OptionsModify, OptionsReply, OptionsShow, OptionStatus
from mover.cli.extensions import KNOWN
from mover.config.options import EXTENSIONS
from mover.ndmp.extensions import OFFERED, WITH_VSERVERS
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

OFF = "is-extension-0x7ff0-enabled"


def answer(request: Request) -> Reply:
    assert isinstance(request, (OptionsShow, OptionsModify))
    if request.vserver == "vs9":
        return Failed("not-found", "there is no vserver vs9")
    if isinstance(request, OptionsModify):
        return Done("changed", [*request.changes, *request.reset])
    rows = [OptionStatus(option="enable", value="true", origin="default")]
    rows += [
        OptionStatus(option=each, value="false" if each == OFF else "true", origin="modified")
        for each in EXTENSIONS.values()
    ]
    return OptionsReply(rows)


def test_every_class_that_can_be_offered_has_its_switch_and_its_line() -> None:
    assert list(EXTENSIONS) == list(KNOWN)
    assert {number: known.versions for number, known in KNOWN.items()} == {**OFFERED, **WITH_VSERVERS}


def test_show_lists_the_classes_and_no_other_option(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        table = mover("extensions", "show", "--advanced")
        document = mover("extensions", "show", "--advanced", "--json")
    heading, *lines = table.stdout.splitlines()
    assert heading.split() == ["vserver", "class", "versions", "enabled", "origin", "offered", "meaning"]
    assert len(lines) == len(EXTENSIONS)
    assert lines[-1].split()[:5] == ["-", "0x7ff0", "1,2", "false", "modified"]
    assert json.loads(document.stdout)["extensions"][-1] == {
        "vserver": "", "class": "0x7ff0", "versions": [1, 2], "enabled": False, "origin": "modified",
        "offered": "always", "meaning": "TEST_ECHO, for tests of the negotiation",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("0x7ff0", "off"), OptionsModify("", {OFF: "false"})),
        (("7FF0", "on", "--vserver", "vs1"), OptionsModify("vs1", {OFF: "true"})),
        (("0X7ff0", "default"), OptionsModify("", {}, [OFF])),
    ],
)
def test_modify_switches_one(mover: Run, socket_path: str, words: tuple[str, ...], request_: OptionsModify) -> None:
    with FakeControl(socket_path, answer) as control:
        plain = mover("extensions", "modify", *words, "--advanced")
        document = mover("extensions", "modify", *words, "--advanced", "--json")
        assert control.requests == [request_, request_]
    assert (plain.exit_code, plain.stdout) == (0, "changed\n")
    assert json.loads(document.stdout) == {"text": "changed", "names": [OFF]}


def test_refusals(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        for words in (("show", "--vserver", "vs9"), ("modify", "7ff0", "on", "--vserver", "vs9")):
            failed = mover("extensions", *words, "--advanced")
            assert (failed.exit_code, failed.stderr) == (1, "mover: there is no vserver vs9\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("extensions", "show"), "add --advanced"),
        (("extensions", "modify", "7ff0", "off"), "add --advanced"),
        (("extensions", "modify", "0x2050", "on", "--advanced"), "'0x2050' is not one of 0x2"),
        (("extensions", "modify", "7ff0", "true", "--advanced"), "is not one of 'on', 'off', 'default'"),
        (("modify", "--reset", OFF), "is reset by `mover extensions modify`"),
        (("modify", f"--{OFF}", "true"), "No such option"),
    ],
)
def test_wrong_usage(mover: Run, words: tuple[str, ...], text: str) -> None:
    result = mover(*words)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())
