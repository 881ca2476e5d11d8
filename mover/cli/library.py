"""`mover library`: what is in the elements of virtual libraries and real changers, and moving cartridges by hand."""

import sys

import click
import msgspec

from mover.admin.tapes import ElementStatus, LibraryInventory, LibraryMove, LibraryShow, LibraryShowReply, LibraryStatus
from mover.cli.completion import libraries
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.main import LazyGroup
from mover.cli.output import Cell, local_time, print_json, print_table, printable

COMMANDS = {
    "show": "mover.cli.library:show",
    "create": "mover.cli.library_create:create",
    "inventory": "mover.cli.library:inventory",
    "move": "mover.cli.library:move",
}


@click.group(cls=LazyGroup, commands_in=COMMANDS)
def library() -> None:
    """Show libraries and real changers, move their cartridges, and make virtual ones."""


@click.command()
@click.argument("library", required=False, shell_complete=libraries)
@admin_socket_option
@json_option
def show(library: str | None, admin_socket: str | None, as_json: bool) -> None:
    """Show drives, mail slot and full slots of LIBRARY, or of all; --json shows empty slots too.

    Exit status: 1 when a real changer did not tell; the others are shown all the same.
    """
    reply = ask(admin_socket, LibraryShow(library), LibraryShowReply)
    if as_json:
        print_json({"libraries": [msgspec.to_builtins(each) for each in reply.libraries]})
    else:
        _print(reply.libraries)
    if any(each.error for each in reply.libraries):
        sys.exit(1)


def _print(libraries: list[LibraryStatus]) -> None:
    for number, each in enumerate(libraries):
        if number:
            click.echo()
        _print_one(each)
    if not libraries:
        click.echo("no libraries")


def _print_one(status: LibraryStatus) -> None:
    opened = f", open in session {status.session_id}" if status.session_id is not None else ""
    hung = f", hung since {local_time(status.hung_since)}" if status.hung_since is not None else ""
    model = f" ({status.model})" if status.model else ""
    click.echo(printable(f"{status.changer}{model}{opened}{hung}: {status.directory}"))
    if status.error:
        click.echo(printable(f"not shown: {status.error}"))
        return
    columns = ["element", "address", "barcode", "home", "imported", "ejected"]
    columns += [name for name in ("drive", "exception") if any(getattr(each, name) for each in status.elements)]
    shown = [each for each in status.elements if each.full or each.exception or not each.element.startswith("slot")]
    print_table(columns, [[_cell(each, name) for name in columns] for each in shown])
    slots = [each for each in status.elements if each.element.startswith("slot")]
    click.echo(f"{len(slots)} slots, {sum(not each.full for each in slots)} of them free")


def _cell(element: ElementStatus, name: str) -> Cell:
    """A cartridge without a barcode, which a real changer may have, is one all the same."""
    cell: Cell = getattr(element, name)
    return "?" if name == "barcode" and element.full and not cell else cell


@click.command()
@click.argument("library", shell_complete=libraries)
@admin_socket_option
@json_option
def inventory(library: str, admin_socket: str | None, as_json: bool) -> None:
    """Look which cartridges were put into LIBRARY, or taken out; a real changer looks at every element."""
    do(admin_socket, LibraryInventory(library), as_json=as_json, names="barcodes")


@click.command()
@click.argument("library", shell_complete=libraries)
@click.argument("source")
@click.argument("destination")
@admin_socket_option
@json_option
def move(library: str, source: str, destination: str, admin_socket: str | None, as_json: bool) -> None:
    """Move a cartridge of LIBRARY from SOURCE to DESTINATION.

    Both are elements such as slot0, drive0 and mail0 (import/export); SOURCE may be a barcode.
    """
    do(admin_socket, LibraryMove(library, source, destination), as_json=as_json, names="barcodes")
