"""docs/operations.md shows every command of an operator, and each of them does what it is shown to do."""

import click
import pytest

from mover.cli.main import main
from tests.support.scripts import load_script

script = load_script("operations_docs")


def leaf(words: list[str]) -> str:
    """The command that a command line is of."""
    command: click.Command = main
    named: list[str] = []
    while isinstance(command, click.Group):
        word = words[1 + len(named)]
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"mover {' '.join([*named, word])}"
        command = found
        named.append(word)
    return " ".join(named)


def test_the_document_has_the_commands_that_the_script_runs() -> None:
    lines = [
        command.format(place=script.SHOWN, host=script.HOST, session="N")
        for part in script.PARTS
        for command in part.commands
    ]
    shown = [
        " ".join("N" if before == "--session-id" else word for before, word in zip(["", *words], words, strict=False))
        for words in (line.split(" ") for line in script.commands_told())
    ]
    assert shown == lines, "run scripts/operations-docs"


def test_every_command_shown_is_one() -> None:
    shown = {leaf(line.split(" ")) for line in script.commands_told()}
    assert shown.isdisjoint(script.ELSEWHERE)
    for command in script.ELSEWHERE:
        assert leaf(["mover", *command.split(" ")]) == command


def test_the_form_is_without_numbers_and_width() -> None:
    assert script.form("a     12.5 s\n--- x 1,2\n") == script.form("a 3 s\n- x 77\n")
    assert script.form("a 1\n") != script.form("b 1\n")


@pytest.mark.slow
def test_every_command_ends_well() -> None:
    made = script.results()
    assert script.wrong(made) == []
    assert "/tmp" not in script.written(made)
