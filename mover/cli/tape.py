"""`mover tape`: drives and cartridges, over the admin socket; `ls`, `verify` and `extract` read cartridge files."""

import click
import msgspec

from mover.admin.tapes import CartridgeStatus, DriveStatus, TapeCreate, TapeLoad, TapeShow, TapeShowReply, TapeUnload
from mover.cli.completion import barcodes, drives, libraries
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.main import LazyGroup
from mover.cli.output import Cell, local_time, print_json, print_table

COMMANDS = {
    "show": "mover.cli.tape:show",
    "create": "mover.cli.tape:create",
    "load": "mover.cli.tape:load",
    "unload": "mover.cli.tape:unload",
    "ls": "mover.cli.tape_offline:ls",
    "verify": "mover.cli.tape_offline:verify",
    "extract": "mover.cli.tape_offline:extract",
}


OF_REAL_DRIVES = {"hung-since", "model", "serial"}  # a table without any has no column for it


@click.group(cls=LazyGroup, commands_in=COMMANDS)
def tape() -> None:
    """Show and handle tape drives and cartridges."""


@click.command()
@admin_socket_option
@json_option
def show(admin_socket: str | None, as_json: bool) -> None:
    """Show the drives and the cartridges of the libraries."""
    reply = ask(admin_socket, TapeShow(), TapeShowReply)
    drives = [msgspec.to_builtins(drive) for drive in reply.drives]
    cartridges = [msgspec.to_builtins(cartridge) for cartridge in reply.cartridges]
    if as_json:
        print_json({"drives": drives, "cartridges": cartridges})
        return
    for heading, what, kind, rows in (
        ("drive", "drives", DriveStatus, drives),
        ("barcode", "cartridges", CartridgeStatus, cartridges),
    ):
        columns = [
            name
            for name in kind.__struct_encode_fields__
            if name not in OF_REAL_DRIVES or any(row[name] for row in rows)
        ]
        if rows:
            print_table([heading, *columns[1:]], [[_cell(row, name) for name in columns] for row in rows])
        else:
            click.echo(f"no {what}")
        if kind is DriveStatus:
            click.echo()


def _cell(row: dict[str, Cell], name: str) -> Cell:
    value = row[name]
    return local_time(value) if name == "hung-since" and isinstance(value, float) else value


@click.command()
@click.argument("library", shell_complete=libraries)
@click.option("--barcode", metavar="B", help="Of the one cartridge to make [default: the next free].")
@click.option("--count", type=click.IntRange(1, 65000), default=1, show_default=True, help="How many.")
@admin_socket_option
@json_option
def create(library: str, barcode: str | None, count: int, admin_socket: str | None, as_json: bool) -> None:
    """Make empty cartridges in a virtual LIBRARY."""
    if barcode is not None and count != 1:
        raise click.UsageError("--barcode names one cartridge, so it does not go with --count")
    do(admin_socket, TapeCreate(library, barcode, count), as_json=as_json, names="barcodes")


@click.command()
@click.argument("drive", shell_complete=drives)
@click.option(
    "--barcode",
    shell_complete=barcodes,
    metavar="B",
    help="The cartridge [default: the first empty one, made where there is none; of a real drive what is in it].",
)
@admin_socket_option
@json_option
def load(drive: str, barcode: str | None, admin_socket: str | None, as_json: bool) -> None:
    """Put a cartridge into DRIVE, such as vtl0/drive0.

    A real drive's changer puts the one of --barcode in; without --barcode the drive loads what is in it.
    """
    do(admin_socket, TapeLoad(drive, barcode), as_json=as_json, names="barcodes")


@click.command()
@click.argument("drive", shell_complete=drives)
@admin_socket_option
@json_option
def unload(drive: str, admin_socket: str | None, as_json: bool) -> None:
    """Put the cartridge in DRIVE back into its slot; a real one without a changer unloads it."""
    do(admin_socket, TapeUnload(drive), as_json=as_json, names="barcodes")
