"""`mover copy`: one server's directory into another's without a tape, with ndmpcopy's options."""

import os
from typing import TYPE_CHECKING, Any, Final  # Any: click's own values

import click

from mover.cli.control_process import json_option
from mover.cli.failure import WrongConfiguration
from mover.cli.job_options import PairType, ServerType, add_options, password, server
from mover.cli.job_progress import duration, encrypted, size
from mover.cli.jobs import document, report_failed, run_job
from mover.cli.output import print_json
from mover.cli.paths import FILE
from mover.cli.streams import work_is_done
from mover.cli.tls_options import TLS_OPTIONS, take_tls

if TYPE_CHECKING:
    from mover.dma import Credentials

LOOPBACK: Final = "127.0.0.1"
SYSTEM_DIRECTORIES: Final = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var"}
)
"""What a copy overwrites with -f only."""


class PlaceType(click.ParamType[tuple[tuple[str, int | None], str]]):
    """``[HOST[:PORT]:]/PATH``; without a host the server on this machine."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        if text.startswith("/"):
            return (LOOPBACK, None), text
        where, colon, path = text.partition(":/")
        if not colon or not where:
            self.fail(f"expected [HOST[:PORT]:]/PATH, got {text!r}", param, ctx)
        return ServerType().convert(where, param, ctx), "/" + path


@click.command()
@click.argument("source", type=PlaceType())
@click.argument("destination", type=PlaceType())
@click.option(
    "-sa", "source_login", metavar="USER[:PASSWORD]",
    help="Login at the source. A password here is seen by all who see this command: better leave it out.",
)  # fmt: skip
@click.option("-da", "destination_login", metavar="USER[:PASSWORD]", help="The same at the destination [default: -sa].")
@click.option(
    "--password-file", envvar="MOVER_PASSWORD_FILE", metavar="FILE", type=FILE,
    help="The first line is the password where -sa or -da has none [default: $MOVER_PASSWORD_FILE, else asked for].",
)  # fmt: skip
@click.option(
    "-st", "source_auth", type=click.Choice(["auto", "md5", "text", "none"]), default="auto", show_default=True,
    help="How to log in at the source.",
)  # fmt: skip
@click.option(
    "-dt", "destination_auth", type=click.Choice(["auto", "md5", "text", "none"]), default="auto", show_default=True,
    help="How to log in at the destination.",
)  # fmt: skip
@click.option("-l", "level", type=click.IntRange(0, 31), default=0, show_default=True, help="Dump level.")
@click.option(
    "--update/--no-update", default=False, show_default=True,
    help="Let later levels be based on this copy: those of backups to tape, too, which then lack what it has.",
)  # fmt: skip
@click.option("-f", "force", is_flag=True, help="Also copy over a system directory as /etc.")
@click.option("-exclude", "exclude", multiple=True, metavar="NAME", help="Leave NAME out; may be repeated.")
@click.option("--type", "butype", default="dump", show_default=True, metavar="TYPE", help="Backup type.")
@click.option(
    "--ndmp-version", type=click.IntRange(3, 4), default=4, show_default=True, help="Highest version to ask for.",
)  # fmt: skip
@click.option(
    "-E", "--env", "env", type=PairType(), multiple=True, metavar="NAME=VALUE",
    help="A variable of the backup type's environment, for both servers; may be repeated.",
)  # fmt: skip
@add_options(TLS_OPTIONS)
@json_option
def copy(
    source: Any, destination: Any, source_login: str | None, destination_login: str | None,
    password_file: str | None, source_auth: Any, destination_auth: Any, level: int, update: bool, force: bool,
    exclude: tuple[str, ...], butype: str, ndmp_version: int, env: tuple[tuple[str, str], ...], as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Copy directory SOURCE into directory DESTINATION, each as [HOST[:PORT]:]/PATH.

    The stream goes from server to server; no tape is needed. What is in the destination already stays, unless the
    source has something of its name.
    """
    from mover.dma import CopyOptions, Place, run_copy

    (from_server, from_path), (to_server, to_path) = source, destination
    if not force and (to_path.rstrip("/") or "/") in SYSTEM_DIRECTORIES:
        raise WrongConfiguration(f"{to_path} is a system directory of the destination; -f copies over it")
    if from_server == to_server and _lies_in(to_path, from_path):
        raise WrongConfiguration(f"{to_path} lies in what is copied, {from_path}")
    giver = _login(source_login, source_auth, password_file, "-sa")
    taker = _login(destination_login or source_login, destination_auth, password_file, "-da")
    tls = take_tls(options)
    wanted = CopyOptions(
        source=Place(server=server(from_server, tls), credentials=giver, path=from_path),
        destination=Place(server=server(to_server, tls), credentials=taker, path=to_path),
        butype=butype, level=level, update=update, exclude=list(exclude), env=list(env), max_version=ndmp_version,
    )  # fmt: skip
    result = run_job(run_copy, wanted, quiet=as_json)
    work_is_done()
    if as_json:
        print_json(document(result))
    else:
        report_failed(result.failed)
        rate = f", {size(result.bytes_processed / result.elapsed_s)}/s" if result.elapsed_s > 0 else ""
        click.echo(
            f"{'not everything' if result.failed else 'everything'} copied, {size(result.bytes_processed)} "
            f"in {duration(result.elapsed_s)}{rate}, {encrypted(result.encryption)}warnings: {len(result.warnings)}"
        )
    if result.failed:
        click.get_current_context().exit(1)


def _lies_in(path: str, directory: str) -> bool:
    """Whether two absolute paths of one server say so by their names."""
    return os.path.commonpath([os.path.normpath(path), os.path.normpath(directory)]) == os.path.normpath(directory)


def _login(text: str | None, method: Any, password_file: str | None, option: str) -> "Credentials":
    """A login by its option; without a password there it comes from the file, or is asked for.

    Raises:
        Failure: the file cannot be used.
    """
    from mover.dma import Credentials

    if method == "none":
        return Credentials("", "", method)
    if text is None:
        raise click.UsageError(f"Missing option '{option}': who is to log in, as USER or USER:PASSWORD")
    user, colon, secret = text.partition(":")
    if not user:
        raise click.UsageError(f"{option}: expected USER or USER:PASSWORD")
    return Credentials(user, secret if colon else password(user, password_file), method)
