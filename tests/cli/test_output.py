"""Tables for people: one line a row, folded only where a terminal asks for it and it stays readable."""

import os

import pytest

from mover.cli.output import Cell, print_table

COLUMNS = ["drive", "path", "bytes"]
ROWS: list[list[Cell]] = [["vtl0/drive0", "/var/lib/mover/vtl0/A1.tap", 5], ["d", "", None]]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))


PLAIN = [
    "drive        path                        bytes",
    "vtl0/drive0  /var/lib/mover/vtl0/A1.tap      5",
    "d            -                               -",
]


def test_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert lines(capsys) == PLAIN


@pytest.mark.parametrize("width", [46, 29])
def test_a_terminal_that_is_wide_enough_or_much_too_narrow_folds_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    on_a_terminal(monkeypatch, width)
    print_table(COLUMNS, ROWS)
    assert lines(capsys) == ["\x1b[1m" + PLAIN[0] + "\x1b[0m", *PLAIN[1:]]


def test_the_widest_column_folds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch, 34)
    print_table(COLUMNS, ROWS)
    assert lines(capsys) == [
        "\x1b[1mdrive        path            bytes\x1b[0m",
        "vtl0/drive0  /var/lib/mover      5",
        "             /vtl0/A1.tap",
        "d            -                   -",
    ]
