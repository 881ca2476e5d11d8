"""`mover tape ls`, `verify` and `extract`: they read the cartridge file themselves, so they need no server.

The only module of the commands that may import the tape room. The server is asked only when a drive or barcode is
named instead of a file.
"""

import os
import stat

import click
import msgspec

from mover.admin.tapes import TapeShow, TapeShowReply
from mover.cli.completion import drives_cartridges_or_files
from mover.cli.control_process import admin_socket_option, ask, json_option
from mover.cli.failure import Failure
from mover.cli.output import print_json, print_table
from mover.cli.streams import work_is_done
from mover.tape.offline import OfflineError, TapeFileContents, list_files
from mover.tape.offline import extract as extract_stream
from mover.tape.verify import VerifiedFile
from mover.tape.verify import verify as verify_records


def cartridge_file(named: str, admin_socket: str | None) -> str:
    """The cartridge file at the path ``named``, in the drive of this name, or with this barcode.

    Raises:
        Failure: there is none, or more than one.
    """
    if os.path.exists(named):
        return _checked(named, named)
    if named.startswith(("/", "./", "../")) or named.endswith(".tap"):
        raise Failure(f"{named}: No such file or directory")
    reply = ask(admin_socket, TapeShow(), TapeShowReply)
    for drive in reply.drives:
        if drive.name == named:
            if not drive.path:
                raise Failure(f"{named}: no cartridge in the drive")
            return _warned(_checked(drive.path, named), named, drive.session_id)
    found = [each for each in reply.cartridges if named in {each.barcode, f"{each.library}/{each.barcode}"}]
    if not found:
        raise Failure(f"{named}: no file, drive or cartridge of this name")
    if len(found) > 1:
        names = " or ".join(f"{each.library}/{each.barcode}" for each in found)
        raise Failure(f"{named}: in several libraries, name {names}")
    users = {drive.name: drive.session_id for drive in reply.drives}
    return _warned(found[0].path, named, users.get(found[0].drive))


def _checked(path: str, named: str) -> str:
    """The path, unless a real drive is there."""
    if path.startswith("iscsi://") or (os.path.exists(path) and stat.S_ISCHR(os.stat(path).st_mode)):
        raise Failure(f"{named}: a device; cartridge files alone are read here, see mover list --tape-file N")
    return path


def _warned(path: str, named: str, session_id: int | None) -> str:
    if session_id is not None:
        click.echo(f"mover: {named} is in use by session {session_id}: its end may be cut", err=True)
    return path


@click.command()
@click.argument("named", metavar="DRIVE-OR-CARTRIDGE", shell_complete=drives_cartridges_or_files)
@admin_socket_option
@json_option
def ls(named: str, admin_socket: str | None, as_json: bool) -> None:
    """List the tape files of a cartridge: a cartridge file, the one in a drive, or one of a library by its barcode."""
    path = cartridge_file(named, admin_socket)
    try:
        contents = list_files(path)
    except OfflineError as error:
        raise Failure(str(error)) from None
    columns = TapeFileContents.__struct_fields__
    rows = [msgspec.to_builtins(each) for each in contents.files]
    if as_json:
        files = [{name.replace("_", "-"): row[name] for name in columns} for row in rows]
        print_json({"path": path, "files": files, "warning": contents.warning})
    elif rows:
        heading = ["file", *(name.replace("_", "-") for name in columns[1:])]
        print_table(heading, [[row[name] for name in columns] for row in rows])
    elif not contents.warning:
        click.echo("the cartridge is empty")
    if contents.warning and not rows:
        raise Failure(contents.warning)  # nothing can be read: this is no cartridge, or none any more
    if not as_json:
        _warn(contents.warning)


@click.command()
@click.argument("named", metavar="DRIVE-OR-CARTRIDGE", shell_complete=drives_cartridges_or_files)
@click.option("--keep", is_flag=True, help="Keep checksums, as of now, of the records that have none.")
@admin_socket_option
@json_option
def verify(named: str, keep: bool, admin_socket: str | None, as_json: bool) -> None:
    """Read all of a cartridge, and hold each record against the checksum that was kept when it was written."""
    path = cartridge_file(named, admin_socket)
    try:
        found = verify_records(path, keep=keep)
    except OfflineError as error:
        raise Failure(str(error)) from None
    work_is_done()
    columns = VerifiedFile.__struct_fields__
    rows = [msgspec.to_builtins(each) for each in found.files]
    damaged = sum(each.damaged for each in found.files)
    if as_json:
        print_json(
            {"path": path, "files": rows, "damages": found.damages, "kept": found.kept, "warning": found.warning}
        )  # fmt: skip
    else:
        if rows:
            print_table(["file", *columns[1:]], [[row[name] for name in columns] for row in rows])
        elif not found.warning:
            click.echo("the cartridge is empty")
        for line in found.damages:
            click.echo(f"mover: {line}", err=True)
        if found.kept:
            click.echo(f"checksums of {found.kept} records, as they are now, were kept")
        _warn(found.warning)
    if damaged:
        raise Failure(f"{path}: {damaged} records have changed or cannot be read")
    if found.warning:
        raise Failure(f"{path}: not all of it could be read")


@click.command()
@click.argument("named", metavar="DRIVE-OR-CARTRIDGE", shell_complete=drives_cartridges_or_files)
@click.option("--output", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="Where to write it.")
@click.option(
    "--file", "number", type=click.IntRange(0), metavar="N", help="Which tape file [default: the first stream]."
)
@click.option("--damaged", is_flag=True, help="Also records that have changed, as they are; zeros for unreadable ones.")
@admin_socket_option
@json_option
def extract(
    named: str, output: str, number: int | None, damaged: bool, admin_socket: str | None, as_json: bool
) -> None:
    """Write the backup stream in a tape file, without padding, to a file that restore or tar reads."""
    path = cartridge_file(named, admin_socket)
    if os.path.exists(output) and os.path.samefile(path, output):
        raise click.UsageError(f"--output {output} is the cartridge itself")
    try:
        done = extract_stream(path, output, number, damaged=damaged)
    except OfflineError as error:
        raise Failure(str(error)) from None
    work_is_done()
    if as_json:
        print_json(
            {"path": path, "output": output, "file": done.number, "kind": done.kind, "bytes": done.bytes,
             "warning": done.warning, "missing": done.missing, "damages": done.damages}
        )  # fmt: skip
    else:
        click.echo(f"tape file {done.number}: {done.kind} stream of {done.bytes} bytes")
        _warn(done.warning)
        for line in done.damages:
            click.echo(f"mover: {line}", err=True)
    if done.damaged:
        raise Failure(f"tape file {done.number}: {done.damaged} damaged records are in {output} as they lie on tape")
    if done.missing:
        raise Failure(f"tape file {done.number} is not whole, {output} has what there is of it: {done.missing}")


def _warn(warning: str) -> None:
    if warning:
        click.echo(f"mover: {warning}", err=True)
