"""Every stored input and every find of the fuzzer, once more."""

import os
from types import ModuleType

import pytest

from mover.ndmp import messages as m
from tests.fuzz import stage, targets
from tests.fuzz.choices import DRIVE
from tests.fuzz.connection import Player
from tests.fuzz.model import Broken, Dialogue
from tests.fuzz.script import Op, ask
from tests.support.scripts import CHECKOUT, load_script


@pytest.mark.parametrize("target", targets.TARGETS)
def test_stored_inputs_pass(target: str) -> None:
    paths = targets.stored(target)
    assert paths, "there is a corpus"
    failed: dict[str, Exception] = {}

    def judge(data: bytes, failure: Exception | None) -> None:
        if failure is not None:
            failed[data.hex()] = failure

    targets.run(target, [path.read_bytes() for path in paths], judge)
    assert failed == {}


@pytest.fixture
def report() -> ModuleType:
    return load_script("fuzz_report")


def test_the_page_tells_what_is_stored(report: ModuleType) -> None:
    page = (CHECKOUT / "docs" / "protocol-tests.md").read_text()
    table = report.load(CHECKOUT / "docs").table()
    assert f"{report.BEGIN}\n{table}\n{report.END}" in page


def test_a_session_is_kept_while_it_is_as_new_and_a_failure_is_told_with_its_history() -> None:
    question, opening = ask(4, m.DataGetStateRequest()), ask(4, m.TapeOpenRequest(DRIVE, 1))
    broken = ask(4, m.TapeGetStateRequest())

    class Watched(Player):
        async def play(self, script: bytes) -> None:
            await super().play(script)
            if script == broken:
                raise Broken("as asked for")

    failures: dict[bytes, Exception | None] = {}
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(stage, "Player", Watched)
        targets.run("session4", [question, opening, broken, question], failures.__setitem__)
    history = bytes([Op.SETTLE]).join([question, opening, ask(4, m.TapeCloseRequest()), broken])
    assert [script for script, failure in failures.items() if failure is not None] == [history]


def test_what_the_last_connection_leaves_behind_is_a_find(monkeypatch: pytest.MonkeyPatch) -> None:
    leaked: list[int] = []
    monkeypatch.setattr(Player, "_leaves_nothing", lambda _: leaked.append(os.dup(0)))
    question = ask(4, m.DataGetStateRequest())
    failed: list[tuple[bytes, str]] = []
    targets.run("session4", [question], lambda script, failure: failed.append((script, str(failure or ""))))
    for descriptor in leaked:
        os.close(descriptor)
    assert failed == [(question, ""), (question, "1 descriptors more than before")]


@pytest.mark.parametrize(("target", "version"), targets.SESSIONS.items())
def test_every_session_is_opened_and_logged_in(target: str, version: int) -> None:
    """What the bar on logged in connections counts."""
    sent = Dialogue.requests_sent
    outcomes: list[Exception | None] = []
    tapeless = ask(version, m.TapeGetStateRequest())  # needs a login
    targets.run(target, [tapeless], lambda _, failure: outcomes.append(failure))
    assert outcomes == [None]
    assert Dialogue.requests_sent == sent + 4  # OPEN, login, a question, this
