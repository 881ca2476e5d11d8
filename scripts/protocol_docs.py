"""Makes docs/protocol.md: tables and state diagrams out of the protocol core's own tables.

Nothing here says what a version has: that stands in mover.ndmp (table, states, edge, enums, reference), so a version
or a message that is added there appears by itself. A test compares the document with what this makes.
"""

import argparse
import inspect
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints  # Any: annotations have no static type

import msgspec

from mover.ndmp import enums, extensions, states, xdr_types
from mover.ndmp import messages as m
from mover.ndmp.edge import CONVERSIONS, map_error
from mover.ndmp.enums import ErrorCode
from mover.ndmp.reference import CLAUSES, GENERAL_ERRORS, source
from mover.ndmp.table import EXTENSION_TABLE, TABLE, VERSIONS, Kind, Row

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"

HEAD = """\
# The protocol as mover speaks it

Made by `scripts/protocol-docs` out of the tables in `mover/ndmp`; a test fails when it is stale. Do not edit it.

How requests are taken, whatever the version:

- The server greets with NOTIFY_CONNECTED (version 4: NOTIFY_CONNECTION_STATUS) and offers the highest version.
  CONNECT_OPEN chooses that or a lower one, once; any other request before it accepts the offered version.
- A request that needs a login is NOT_AUTHORIZED_ERR before it, in the header, and its body is not looked at. A number
  that the version does not have is NOT_SUPPORTED_ERR, a body that cannot be decoded XDR_DECODE_ERR, both in the header
  without a body.
- A message whose header is cut off, a reply and a post from a client get no answer; broken record marking ends the
  connection.
- In a state that does not take a request the answer is ILLEGAL_STATE_ERR and nothing changes.
- Any request may also be answered by {general}.

A state in brackets is one that the request leads to; "-": the request looks at neither DATA nor MOVER.
"""

_TYPES = {
    get_args(hint)[1]: name
    for hint, name in (
        (xdr_types.U8, "u8"), (xdr_types.U16, "u16"), (xdr_types.I16, "i16"), (xdr_types.U32, "u32"),
        (xdr_types.U64, "u64"), (xdr_types.Enum, "enum"), (xdr_types.String, "string"),
        (xdr_types.Opaque, "opaque"), (xdr_types.Digest, "opaque[16]"), (xdr_types.Challenge, "opaque[64]"),
    )
}  # fmt: skip
"""The mark that gives a field its XDR form -> its name here."""


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table and the empty line behind it."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return [*("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines), ""]


def rows_of(version: int) -> list[Row]:
    """The messages of a version by number."""
    return [row for (each, _), row in sorted(TABLE.items()) if each == version]


# ---- machines


def machines(version: int) -> list[tuple[str, Mapping[Any, Any]]]:
    """Name and transition table of each machine that a version has."""
    tables = (("DATA", states.DATA_TRANSITIONS), ("MOVER", states.MOVER_TRANSITIONS))
    return [(name, by_version[version]) for name, by_version in tables if version in by_version]


def takes(version: int, row: Row) -> str:
    """The states that take a request, with the state it leads to where that is another."""
    for name, transitions in machines(version):
        if not row.name.startswith(f"{name}_"):
            continue
        wanted = row.name.removeprefix(f"{name}_")
        wanted = "START" if wanted.startswith("START_") else wanted
        found = [
            before.name if before is after else f"{before.name} ({after.name})"
            for (before, signal), after in transitions.items()
            if signal.name == wanted
        ]
        return ", ".join(found) or "none"
    return "-"


def label(signal: Any) -> str:
    """An input as an arrow's text: requests in capitals, events in words."""
    return str(signal.value)


def diagram(transitions: Mapping[Any, Any]) -> list[str]:
    """A mermaid state diagram; inputs that change nothing are left out, those of one arrow share it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, signal), after in transitions.items():
        if before is not after:
            arrows.setdefault((before.name, after.name), []).append(label(signal))
    first = next(iter(transitions))[0].name
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}: {'<br/>'.join(labels)}" for (before, after), labels in arrows.items()]
    return [*lines, "```", ""]


def transition_table(transitions: Mapping[Any, Any]) -> list[str]:
    """Every input against every state; an empty cell is illegal."""
    seen = sorted({state for (before, _), after in transitions.items() for state in (before, after)})
    present = {signal for _, signal in transitions}
    signals = [signal for signal in type(next(iter(transitions))[1]) if signal in present]
    rows = []
    for signal in signals:
        cells = [transitions.get((state, signal)) for state in seen]
        rows.append([label(signal), *("" if cell is None else cell.name for cell in cells)])
    return table(["input", *(state.name for state in seen)], rows)


def reasons() -> list[str]:
    """Why an input ends in PAUSED or HALTED."""
    lines: list[str] = []
    kinds = (("DATA pauses", "DATA_PAUSE_REASONS"), ("DATA halts", "DATA_HALT_REASONS"),
             ("MOVER pauses", "MOVER_PAUSE_REASONS"), ("MOVER halts", "MOVER_HALT_REASONS"))  # fmt: skip
    for heading, name in kinds:
        lines += table([heading, "reason"], [[label(s), r.name] for s, r in getattr(states, name).items()])
    return lines


def joints() -> list[str]:
    """What a request with address LOCAL does to the other machine."""
    rows = [
        [str(version), f"{own} {label(signal)}", f"{other} {joint.needs.name}", f"{other} gets: {label(joint.gives)}"]
        for own, other, joined in (("DATA", "MOVER", states.DATA_JOINT), ("MOVER", "DATA", states.MOVER_JOINT))
        for (version, signal), joint in joined.items()
    ]
    return table(["version", "LOCAL request", "needs", "gives"], rows)


# ---- messages


def error_names(version: int, errors: Iterable[ErrorCode]) -> str:
    """Codes as the version can say them, without the suffix that all have."""
    mapped = dict.fromkeys(ErrorCode(map_error(version, error)) for error in errors)
    return ", ".join(error.name.removesuffix("_ERR") for error in mapped)


def message_table(version: int) -> list[str]:
    """Every message of a version."""
    rows = []
    for row in rows_of(version):
        clause = CLAUSES.get((version, row.name))
        if row.kind is Kind.POST:
            before, taken, errors = "", "", ""
        else:
            before = "no" if row.needs_authentication else "yes"
            taken = takes(version, row)
            if clause is not None and clause.needs:
                taken = clause.needs if taken == "-" else f"{taken}; {clause.needs}"
            errors = "" if clause is None else error_names(version, clause.errors)
        rows.append([f"{row.code:04x}", row.name, row.kind.value, before, taken, errors, source(version, row.code)])
    return table(["number", "message", "kind", "before login", "states", "errors", "source"], rows)


def type_name(hint: Any) -> str:
    """A field's XDR type in a few letters."""
    if get_origin(hint) is tuple:
        return f"{type_name(get_args(hint)[0])}<>"
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            if isinstance(mark, xdr_types.Arms):
                arms = ", ".join(f"{int(number)}: {fields(arm)}" for number, arm in mark.arms.items())
                return f"union {{{arms}}}"
            if mark in _TYPES:
                return _TYPES[mark]
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return fields(hint)
    raise TypeError(f"{hint!r} has no name here")


def fields(struct: type[msgspec.Struct]) -> str:
    """The fields of a struct in wire order."""
    hints = get_type_hints(struct, include_extras=True)
    inner = ", ".join(f"{name} {type_name(hints[name])}" for name in struct.__struct_fields__)
    if issubclass(struct, m.Body):
        return inner or "-"
    return f"{{{inner}}}" if inner else "{}"


def wire_type(version: int, row: Row, body: type[m.Body]) -> type[m.Body]:
    """The struct that travels."""
    conversion = CONVERSIONS.get((version, row.code, body))
    return body if conversion is None else conversion.wire


def bodies() -> list[str]:
    """The fields of every body, versions that agree in one row."""
    found: dict[tuple[int, str, str, str], list[int]] = {}
    for version in VERSIONS:
        for row in rows_of(version):
            for body, suffix in ((row.request, ""), (row.reply, " reply")):
                if body is not None:
                    text = fields(wire_type(version, row, body))
                    found.setdefault((row.code, suffix, row.name, text), []).append(version)
    rows = [
        [f"{code:04x}", name + suffix, " ".join(map(str, versions)), text]
        for (code, suffix, name, text), versions in sorted(found.items(), key=lambda item: (*item[0][:2], item[1]))
    ]
    return table(["number", "body", "versions", "fields"], rows)


# ---- extensions


def extension_list() -> list[str]:
    """The classes that are offered, their messages, and the bodies of each version."""
    lines = table(
        ["class", "versions, the default first"],
        [[f"{each:04x}", ", ".join(map(str, versions))] for each, versions in extensions.OFFERED.items()],
    )
    rows = []
    for (version, code), row in sorted(EXTENSION_TABLE.items(), key=lambda item: (item[0][1], item[0][0])):
        assert row.reply is not None
        asked, answered = (fields(wire_type(version, row, body)) for body in (row.request, row.reply))
        rows.append(
            [f"{code:08x}", row.name, str(version), "no" if row.needs_authentication else "yes", asked, answered]
        )
    return lines + table(["number", "message", "version of the class", "before login", "request", "reply"], rows)


def negotiation_table() -> list[str]:
    """Every step of the negotiation in every stage: the next stage, or the error."""
    rows = []
    for step in extensions.Step:
        cells = []
        for stage in extensions.Stage:
            after = extensions.TRANSITIONS.get((stage, step))
            cells.append(extensions.REFUSALS[stage].name if after is None else after.value)
        rows.append([step.value, *cells])
    return table(["step", *(stage.value for stage in extensions.Stage)], rows)


# ---- numbers


def error_table() -> list[str]:
    """Every error code and what is sent in its place where the version lacks it."""
    rows = []
    for error in ErrorCode:
        cells = [ErrorCode(map_error(version, error)) for version in VERSIONS]
        rows.append([str(error.value), error.name, *("=" if cell is error else cell.name for cell in cells)])
    return table(["code", "name", *(f"version {version}" for version in VERSIONS)], rows)


def enum_table() -> list[str]:
    """Every other enum of the internal form."""
    rows = []
    for name, enum in vars(enums).items():
        if not inspect.isclass(enum) or not issubclass(enum, (IntEnum, IntFlag)) or enum in {IntEnum, IntFlag}:
            continue
        if enum in {ErrorCode, enums.MessageCode}:
            continue
        members = ", ".join(f"{member.name} {member.value}" for member in enum)
        rows.append([name, (enum.__doc__ or "").strip().splitlines()[0].rstrip("."), members])
    return table(["enum", "meaning", "values"], rows)


def document() -> str:
    """The whole document."""
    general = ", ".join(error.name for error in GENERAL_ERRORS)
    lines = HEAD.format(general=general).splitlines()
    lines.append("")
    for version in reversed(VERSIONS):
        lines += [f"## Version {version}", "", f"### Messages of version {version}", "", *message_table(version)]
        for name, transitions in machines(version):
            same = [
                other
                for other in reversed(VERSIONS)
                if other > version and dict(machines(other)).get(name) == transitions
            ]
            lines += [f"### {name} in version {version}", ""]
            if same:
                lines += [f"As in version {same[0]}.", ""]
            else:
                lines += [*diagram(transitions), *transition_table(transitions)]
    lines += ["## Why a machine pauses or halts", "", *reasons()]
    lines += ["## Where one machine moves the other", "", *joints()]
    lines += [
        "## Bodies",
        "",
        "In wire order, behind the header of six words. `<>` is an array with its count in front.",
        "",
        *bodies(),
    ]
    lines += [
        "## Extensions",
        "",
        "Of version 4 alone. A SET_EXT_LIST that is refused for its classes leaves the stage as it is.",
        "",
        *extension_list(),
        *negotiation_table(),
    ]
    lines += ["## Error codes", "", "`=`: sent as it is.", "", *error_table()]
    lines += [
        "## Other numbers",
        "",
        "As version 4 has them; where another version differs, `mover/ndmp/edge.py` converts.",
        "",
        *enum_table(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the document, or with --check say whether it is stale (exit 1)."""
    parser = argparse.ArgumentParser(prog="scripts/protocol-docs", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when docs/protocol.md is stale")
    arguments = parser.parse_args()
    text = document()
    if arguments.check:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
            print("docs/protocol.md is stale: run scripts/protocol-docs", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
