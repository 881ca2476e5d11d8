"""`mover status`, `mover probe`, `mover kill`: the NDMP connections of the control process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar  # Any: any command function, and the values of any field

import click
import msgspec

from mover.admin.messages import Done
from mover.admin.sessions import (
    SESSION_FIELDS,
    HungDevice,
    Kill,
    KillAll,
    SessionStatus,
    Status,
    StatusReply,
    WorkerStatus,
)
from mover.cli.completion import sessions, vservers
from mover.cli.control_process import admin_socket_option, ask, json_option
from mover.cli.output import Cell, local_time, print_json, print_table, printable, shown, table_lines
from mover.cli.streams import work_is_done
from mover.cli.watch import watch, watch_options

STATUS_FIELDS: Final = (
    "vserver", "session-id", "client-addr", "ndmp-version", "data-operation", "data-state", "mover-mode", "mover-state",
    "tape-device", "data-bytes-processed", "mover-bytes-moved", "elapsed-seconds", "bottleneck", "data-path",
)  # fmt: skip

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _split_fields(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    fields = tuple(name.strip() for name in value.split(","))
    for name in fields:
        if name not in SESSION_FIELDS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(SESSION_FIELDS)}")
    return fields


def _selection(command: _Command) -> _Command:
    """Add ``--fields`` and an option for each field, which keeps the sessions with that value."""
    for name in reversed(SESSION_FIELDS):
        if name == "workers":
            continue
        command = click.option(
            f"--{name}",
            name.replace("-", "_"),
            metavar="VALUE",
            type=int if name == "session-id" else str,
            help="Only the session with this id." if name == "session-id" else None,
            hidden=name != "session-id",
            shell_complete=sessions if name == "session-id" else None,
        )(command)
    return click.option(
        "--fields", callback=_split_fields, metavar="A,B,...", help="Only these fields, in this order."
    )(command)


_Found = tuple[list[dict[str, Any]], list[HungDevice]]


def _sessions(admin_socket: str | None, filters: Mapping[str, Any]) -> _Found:
    """The sessions that pass every filter, each as its fields in the contract's order; and devices that hang."""
    reply = ask(admin_socket, Status(filters["session_id"]), StatusReply)
    wanted = {name.replace("_", "-"): value for name, value in filters.items() if value is not None}
    rows = [msgspec.to_builtins(session) for session in reply.sessions]
    kept = [
        row for row in rows if all(shown(row[name]).lower() == shown(value).lower() for name, value in wanted.items())
    ]
    return kept, reply.hung_devices


@click.command()
@watch_options
@_selection
@admin_socket_option
@json_option
def status(
    admin_socket: str | None,
    as_json: bool,
    fields: tuple[str, ...] | None,
    watched: bool,
    interval_s: float | None,
    **filters: Any,
) -> None:
    """Show the NDMP sessions, a line each.

    Every field of `mover probe` can be given as an option that keeps the sessions with this value, such as
    --data-state ACTIVE.
    """
    if interval_s is not None and not watched:
        raise click.UsageError("--interval is for --watch")

    names = fields or STATUS_FIELDS

    def look() -> _Found:
        return _sessions(admin_socket, filters)

    def document(found: _Found) -> dict[str, Any]:
        rows, hung = found
        return {
            "sessions": [{name: row[name] for name in fields or SESSION_FIELDS} for row in rows],
            "hung-devices": [msgspec.to_builtins(each) for each in hung],
        }

    def lines(found: _Found, terminal_width: int | None) -> list[str]:
        rows, hung = found
        table = table_lines(names, _table(names, rows), terminal_width) if rows else ["no sessions"]
        return [*_hung_lines(hung), *table]

    if watched:
        watch(look, interval_s, as_json=as_json, document=document, lines=lines)
    elif as_json:
        print_json(document(look()))
    else:
        rows, hung = look()
        for line in _hung_lines(hung):
            click.echo(line)
        if rows:
            print_table(names, _table(names, rows))
        else:
            click.echo("no sessions")


@click.command()
@_selection
@admin_socket_option
@json_option
def probe(admin_socket: str | None, as_json: bool, fields: tuple[str, ...] | None, **filters: Any) -> None:
    """Show every field of the NDMP sessions and the statistics of their workers."""
    rows, _ = _sessions(admin_socket, filters)
    names = fields or SESSION_FIELDS
    if as_json:
        print_json({"sessions": [{name: row[name] for name in names} for row in rows]})
        return
    if not rows:
        click.echo("no sessions")
        return
    width = max(map(len, names))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for name in names:
            if name != "workers":
                click.echo(f"{name.rjust(width)}: {shown(row[name])}")
        if "workers" in names and row["workers"]:
            columns = WorkerStatus.__struct_encode_fields__
            print_table(
                ["worker-" + name if name == "pid" else name for name in columns],
                [[worker[name] for name in columns] for worker in row["workers"]],
            )


def _hung_lines(hung: list[HungDevice]) -> list[str]:
    return [printable(f"{device.name} is hung since {local_time(device.hung_since)}") for device in hung]


def _table(names: Sequence[str], rows: list[dict[str, Any]]) -> list[list[Cell]]:
    return [[_cell(row[name]) for name in names] for row in rows]


def _cell(value: Any) -> Cell:
    """A field in one cell; the workers become ``kind pid`` pairs."""
    if isinstance(value, list):
        return ", ".join(f"{worker['kind']} {worker['pid']}" for worker in value)
    cell: Cell = value
    return cell


@click.command()
@click.option(
    "--session-id", type=int, required=True, metavar="ID", shell_complete=sessions, help="As `mover status` shows it."
)
@admin_socket_option
@json_option
def kill(session_id: int, admin_socket: str | None, as_json: bool) -> None:
    """End an NDMP session and the jobs it runs."""
    done = ask(admin_socket, Kill(session_id), Done)
    work_is_done()
    if as_json:
        print_json({"session-id": session_id, "text": done.text})
    else:
        click.echo(done.text)


@click.command("kill-all")
@click.option("--vserver", metavar="V", shell_complete=vservers, help="Only the sessions at the LIFs of this vserver.")
@admin_socket_option
@json_option
def kill_all(vserver: str | None, admin_socket: str | None, as_json: bool) -> None:
    """End all NDMP sessions and the jobs they run."""
    done = ask(admin_socket, KillAll(vserver), Done)
    work_is_done()
    if as_json:
        print_json({"session-ids": [int(each) for each in done.names], "text": done.text})
    else:
        click.echo(done.text)


assert set(STATUS_FIELDS) <= set(SessionStatus.__struct_encode_fields__)
