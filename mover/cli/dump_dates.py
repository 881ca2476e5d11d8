"""`mover dumpdates`: the dates and inode tables that incremental backups are based on."""

import os
import time

import click
import msgspec

from mover.admin.dump_dates import DumpDatesDelete, DumpDatesExport, DumpDatesImport, DumpDatesList, DumpDatesReply
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.main import LazyGroup
from mover.cli.output import print_json, print_table
from mover.cli.paths import FILE

COMMANDS = {
    "list": "mover.cli.dump_dates:list_",
    "delete": "mover.cli.dump_dates:delete",
    "export": "mover.cli.dump_dates:export",
    "import": "mover.cli.dump_dates:import_",
}


@click.group(cls=LazyGroup, commands_in=COMMANDS)
def dumpdates() -> None:
    """Show and move what incremental backups are based on."""


@click.command("list")
@admin_socket_option
@json_option
def list_(admin_socket: str | None, as_json: bool) -> None:
    """List the backups that others can be based on, the oldest first."""
    reply = ask(admin_socket, DumpDatesList(), DumpDatesReply)
    if as_json:
        print_json({"dump-dates": [msgspec.to_builtins(each) for each in reply.dump_dates]})
        return
    print_table(
        ["type", "filesystem", "level", "full", "date", "dump-date", "table-bytes"],
        [
            [
                each.butype,
                each.filesystem,
                each.level,
                each.full,
                time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(each.date)),
                each.dump_date,
                each.table_bytes,
            ]
            for each in reply.dump_dates
        ],
    )


@click.command()
@click.argument("filesystem")
@click.option("--type", "butype", metavar="TYPE", help="Only this backup type.")
@click.option("--level", type=click.IntRange(0, 31), help="Only this level.")
@click.option("--dump-date", metavar="TOKEN", help="Only the one with this DUMP_DATE.")
@admin_socket_option
@json_option
def delete(
    filesystem: str,
    butype: str | None,
    level: int | None,
    dump_date: str | None,
    admin_socket: str | None,
    as_json: bool,
) -> None:
    """Forget the dump dates of FILESYSTEM, as `mover dumpdates list` shows it.

    What would have been based on them is based on an earlier one of a lower level, or becomes a full backup.
    """
    do(admin_socket, DumpDatesDelete(filesystem, butype, level, dump_date), as_json=as_json)


@click.command()
@click.argument("file", type=FILE)
@admin_socket_option
@json_option
def export(file: str, admin_socket: str | None, as_json: bool) -> None:
    """Write all dump dates with their inode tables to FILE, which must not exist.

    The control process writes it.
    """
    do(admin_socket, DumpDatesExport(os.path.abspath(file)), as_json=as_json)


@click.command("import")
@click.argument("file", type=FILE)
@admin_socket_option
@json_option
def import_(file: str, admin_socket: str | None, as_json: bool) -> None:
    """Take the dump dates of another node with the same volumes from FILE.

    They take the place of those that are here of the same directories, unless the latest here is later.
    """
    do(admin_socket, DumpDatesImport(os.path.abspath(file)), as_json=as_json)
