"""`mover explain`: what an error means and what to do about it."""

import textwrap

import click

from mover.catalogue.entry import KINDS, Entry
from mover.catalogue.find import ENTRIES, find, search, suggest
from mover.cli.failure import WrongConfiguration
from mover.cli.output import print_json, print_table, printable

_WIDTH = 100


@click.command()
@click.argument("code", nargs=-1)
@click.option("--search", "word", metavar="WORD", help="Every entry that has this word.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def explain(code: tuple[str, ...], word: str | None, *, as_json: bool) -> None:
    """What CODE means and what to do about it.

    CODE is an NDMP error (DEVICE_BUSY_ERR, NDMP4_DEVICE_BUSY_ERR, 2), a halt or pause (MOVER_HALT_MEDIA_ERROR), an
    exit status (exit-3), a code of a command's failure, or a line of the server's log, pasted as it is. Without CODE:
    all of them.
    """
    wanted = " ".join(code)
    if wanted and word is not None:
        raise click.UsageError("give CODE or --search, not both")
    found = list(ENTRIES)
    if word is not None:
        found = search(word)
    elif wanted:
        found = find(wanted)
    if not found:
        raise WrongConfiguration(_unknown(wanted or word or ""))
    if as_json:
        print_json({"entries": found})
    elif wanted:
        click.echo("\n\n".join(map(_text, found)))
    else:
        print_table(["code", "number", "meaning"], [[entry.code, entry.number, entry.meaning] for entry in found])


def _unknown(wanted: str) -> str:
    text = f"nothing is known of {printable(wanted)[:80]!r}"
    near = suggest(wanted)
    return f"{text}; did you mean {' or '.join(near)}?" if near else f"{text}; `mover explain` lists all codes"


def _text(entry: Entry) -> str:
    number = "" if entry.number is None else f" ({entry.number})"
    source = f" [{entry.source}]" if entry.source else ""
    rows = (("is", f"{KINDS[entry.kind]}{source}"), ("means", entry.meaning), ("do", entry.action))
    lines = [f"{entry.code}{number}"]
    for title, text in rows:
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"  {title:<6}", subsequent_indent=" " * 8)
    return "\n".join(lines)
