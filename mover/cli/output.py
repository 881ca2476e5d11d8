"""What commands print: tables for people and one JSON document for scripts."""

import shutil
import sys
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import click
import msgspec.json

GAP: Final = "  "
FOLDED_MIN: Final = 10  # characters; a table that would need less is left to the terminal's own wrapping

Cell = str | int | float | bool | None


def print_json(document: object) -> None:
    """One JSON document, one line."""
    click.echo(msgspec.json.encode(document))


def shown(value: Cell) -> str:
    """A value in a table: "-" for what does not apply, nothing that a terminal would obey."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value))


def local_time(seconds: float | None) -> str:
    """Seconds since 1970 on this host's clock; "" for None."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def printable(text: str) -> str:
    """The text with control characters, and bytes that are not UTF-8, as backslash escapes: file names hold any."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte that could not be decoded, PEP 383
        return f"\\x{ord(letter) & 0xFF:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table; numbers stand on the right. Every row is one line, but a terminal folds the widest column to fit in."""
    terminal = sys.stdout.isatty()
    heading, *others = table_lines(columns, rows, shutil.get_terminal_size().columns if terminal else None)
    click.echo(click.style(heading, bold=True) if terminal else heading)
    for line in others:
        click.echo(line)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Cell]], terminal_width: int | None) -> list[str]:
    """The lines of a table, the heading first.

    Args:
        terminal_width: into which the widest column is folded to fit; None = as wide as it is.
    """
    numeric = [
        bool(rows) and all(isinstance(row[n], (int, float)) or row[n] is None for row in rows)
        for n in range(len(columns))
    ]
    cells = [list(columns), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if terminal_width is not None:
        widths = _fitted(widths, terminal_width)
    lines = []
    for line in cells:
        folded = [
            [cell[at : at + width] for at in range(0, len(cell), width)]
            for cell, width in zip(line, widths, strict=True)
        ]
        for parts in zip_longest(*folded, fillvalue=""):
            padded = [
                part.rjust(width) if right else part.ljust(width)
                for part, width, right in zip(parts, widths, numeric, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
    return lines


def _fitted(widths: list[int], terminal_width: int) -> list[int]:
    """The widths with the widest made narrower, where that makes the table fit and leaves something to read."""
    widest = max(range(len(widths)), key=widths.__getitem__)
    narrower = widths[widest] - (sum(widths) + len(GAP) * (len(widths) - 1) - terminal_width)
    if FOLDED_MIN <= narrower < widths[widest]:
        return [*widths[:widest], narrower, *widths[widest + 1 :]]
    return widths
