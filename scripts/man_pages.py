"""Man pages: one for each command, from the definitions that commands are made of, and mover.toml(5) from its document.

They are rendered here: the pages of click-man leave out arguments and variables, and do not escape what roff
takes for its own requests.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

import mover
from mover.cli.main import main

CONFIGURATION: Final = Path("docs") / "configuration.md"
EXIT_STATUS: Final = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong usage or configuration"),
    ("3", "no control process reached"),
)


def man_pages(checkout: Path, moment: int) -> dict[str, str]:
    """File name -> page.

    Args:
        moment: seconds since the epoch, whose day stands in the pages.
    """
    pages = {f"{name.replace(' ', '-')}.1": _command_page(context, moment) for name, context in _commands()}
    text = (checkout / CONFIGURATION).read_text()
    pages["mover.toml.5"] = "\n".join(
        [_title("mover.toml", 5, moment), *_name("mover.toml", "configuration of mover"), *_from_markdown(text), ""]
    )
    return pages


def _commands(
    command: click.Command = main, name: str = "mover", parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Every command as one types it."""
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2], **command.context_settings)
    yield name, context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            if not found.hidden:
                yield from _commands(found, f"{name} {below}", context)


# --- roff


def _text(text: str) -> str:
    """Words as they are: nothing in them is roff's."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _title(name: str, section: int, moment: int) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(moment))
    return f'.TH "{_text(name.upper())}" {section} "{day}" "mover {mover.__version__}" "mover"'


def _name(name: str, summary: str) -> list[str]:
    return [".SH NAME", f"{_text(name)} \\- {_text(summary)}"]


def _paragraphs(text: str) -> Iterator[str]:
    """Of click's help: blank lines part paragraphs, and one after a line of \\b keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        lines = [line.strip() for line in paragraph.splitlines()]
        kept = lines[0] == "\b"
        if number:
            yield ".PP"
        if kept:
            yield ".nf"
        yield from (_text(line) for line in lines[kept:])
        if kept:
            yield ".fi"


# --- commands


def _command_page(context: click.Context, moment: int) -> str:
    command, path = context.command, context.command_path
    page = path.replace(" ", "-")
    lines = [_title(page, 1, moment), *_name(page, command.get_short_help_str(200).rstrip("."))]
    usage = " ".join(command.collect_usage_pieces(context))
    lines += [".SH SYNOPSIS", f"{_bold(path)} {_text(usage)}"]
    lines += [".SH DESCRIPTION", *_paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            if not below.hidden:
                lines += [".TP", f"\\fB{_text(f'{page}-{name}')}\\fR(1)", _text(below.get_short_help_str(200))]
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    records = [record for each in options if (record := each.get_help_record(context)) is not None]
    lines.append(".SH OPTIONS")
    for written, meaning in records:
        lines += [".TP", _bold(written), _text(" ".join(meaning.split())) if meaning else "\\&"]
    variables = [(each.envvar, each.opts[-1]) for each in options if isinstance(each.envvar, str)]
    if variables:
        lines.append(".SH ENVIRONMENT")
        for variable, option in variables:
            lines += [".TP", _bold(variable), f"Where {_bold(option)} is not given."]
    lines.append(".SH EXIT STATUS")
    for status, meaning in EXIT_STATUS:
        lines += [".TP", _bold(status), _text(meaning)]
    above = [context.parent.command_path.replace(" ", "-")] if context.parent is not None else []
    see = [*(f"\\fB{_text(each)}\\fR(1)" for each in above), "\\fBmover.toml\\fR(5)"]
    return "\n".join([*lines, ".SH SEE ALSO", ", ".join(see), ""])


# --- the document of the configuration


def _inline(text: str) -> str:
    """Code is bold, a link is its text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"`([^`]*)`", text)
    marked = "".join(_bold(part) if number % 2 else _text(part) for number, part in enumerate(parts))
    return f"\\&{marked}" if marked.startswith(".") else marked


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def _row(heading: list[str], row: str) -> Iterator[str]:
    """A row of a table: its first cell is what the others are about."""
    name, *others = _cells(row)
    yield from (".TP", _inline(name))
    told = [
        f"({title}: {cell})" if title == "default" else cell
        for title, cell in zip(heading[1:], others, strict=True)
        if cell
    ]
    yield _inline(" ".join(told)) if told else "\\&"


def _from_markdown(text: str) -> Iterator[str]:
    """Headings, paragraphs, lists, tables and code, as the documents here use them."""
    yield ".SH DESCRIPTION"
    heading: list[str] = []
    inside_code = after_text = False
    for line in text.splitlines()[1:]:  # the first is the title
        if line.startswith("```"):
            inside_code = not inside_code
            yield from (".PP", ".in +4n", ".EX") if inside_code else (".EE", ".in")
            after_text = False
        elif inside_code:
            yield _text(line) or "\\&"
        elif line.startswith("## "):
            yield f'.SH "{_inline(line[3:].replace("`", "")).upper()}"'
            after_text = False
        elif line.startswith("### "):
            yield f'.SS "{_inline(line[4:].replace("`", ""))}"'
            after_text = False
        elif line.startswith("|"):
            if not heading:
                heading = _cells(line)
            elif not re.fullmatch(r"[| :-]+", line):
                yield from _row(heading, line)
            after_text = False
            continue
        elif line.startswith("    "):
            yield from (".PP", ".in +4n", ".EX", _text(line[4:]), ".EE", ".in")
            after_text = False
        elif line.startswith("- "):
            yield from (".IP \\(bu 2", _inline(line[2:]))
            after_text = True
        elif line.strip():
            if not after_text:
                yield ".PP"
            yield _inline(line.strip())
            after_text = True
        else:
            after_text = False
        heading = []
