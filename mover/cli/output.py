"""What commands print: tables for people and one JSON document for scripts."""

import sys
from collections.abc import Sequence

import click
import msgspec.json

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
    """A table; numbers stand on the right. On a terminal long cells fold, elsewhere every row is one line."""
    numeric = [
        bool(rows) and all(isinstance(row[n], (int, float)) or row[n] is None for row in rows)
        for n in range(len(columns))
    ]
    cells = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells, numeric)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]], numeric: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console(highlight=False).print(table)
