"""`mover backup`, `mover recover`, `mover list`: thin covers of the built-in DMA's jobs."""

import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar  # Any: values as click or JSON have them

import click
import msgspec
from click.core import ParameterSource

from mover.cli.control_process import json_option
from mover.cli.failure import Failure, WrongConfiguration
from mover.cli.job_options import (
    BLOCK_BYTES,
    NumberType,
    PairType,
    SizeType,
    catalogue_option,
    changer_name,
    changer_options,
    session,
    session_options,
)
from mover.cli.job_progress import duration, encrypted, reporter, size
from mover.cli.output import print_json, print_table, printable
from mover.cli.paths import directories
from mover.cli.streams import work_is_done

if TYPE_CHECKING:
    import trio

    from mover.dma import Entry, FailedName, Job

_Result = TypeVar("_Result")


def run_job(job: Callable[..., Awaitable[_Result]], options: msgspec.Struct, *, quiet: bool) -> _Result:
    """Run a job of the DMA with its progress shown.

    Raises:
        Failure: the job failed; its one line of text.
    """
    import trio

    from mover.dma import DmaError

    with reporter(quiet=quiet) as sink:

        async def run() -> _Result:
            with trio.CancelScope() as scope, _cancelled_by_signals(scope) as received:
                return await job(options, progress=sink.progress, log=sink.log)
            raise Failure(f"ended by {signal.Signals(received[0]).name}")

        try:
            return trio.run(run)
        except DmaError as error:
            sink.failed(str(error))
            raise Failure(str(error)) from None
        except KeyboardInterrupt:
            raise Failure(f"ended by {signal.SIGINT.name}") from None


@contextlib.contextmanager
def _cancelled_by_signals(scope: "trio.CancelScope") -> Iterator[list[int]]:
    """SIGTERM and a terminal's hang-up end a job as Ctrl-C does, unless ignored as under nohup; gives what came."""
    import trio

    token = trio.lowlevel.current_trio_token()
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        token.run_sync_soon(scope.cancel)

    handled = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the DMA has the defaults of the others."""
    return {name: value for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    """A result as JSON has it: dashes in names, bytes as text with backslash escapes where they are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name.replace("_", "-"): _plain(content) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def document(result: msgspec.Struct) -> dict[str, Any]:
    """A result of the DMA as JSON has it."""
    plain: dict[str, Any] = _plain(msgspec.to_builtins(result, builtin_types=(bytes,)))
    return plain


def report_failed(failed: list["FailedName"]) -> None:
    """A line on standard error for each name that did not come back."""
    for each in failed:
        name = printable(each.name.decode("utf-8", "surrogateescape")) or "/"
        click.echo(f"not recovered: {name}: {each.status}", err=True)


@click.command()
@click.argument("path", shell_complete=directories)
@session_options(required=True)
@catalogue_option
@click.option(
    "--record-size", type=SizeType(of=BLOCK_BYTES), metavar="SIZE",
    help="Bytes per mover record, a multiple of 512 [default: 64KiB].",
)  # fmt: skip
@click.option(
    "--history", type=click.Choice(["y", "d", "f", "n"]), default="y", show_default=True,
    help="File history: y as the server likes, d by directory and node, f by path, n none.",
)  # fmt: skip
@click.option(
    "--level",
    type=click.IntRange(0, 31),
    default=0,
    show_default=True,
    help="Above 0: what changed since the latest backup of a lower level.",
)
@click.option("--update/--no-update", default=True, show_default=True, help="Let later levels be based on this one.")
@click.option("--overwrite", is_flag=True, help="Write from the beginning of the tape, not behind what is there.")
@changer_options(required=False)
@click.option("--labels", is_flag=True, help="Write to labelled cartridges also without a changer.")
@click.option("--new-cartridge", is_flag=True, help="Begin on a cartridge with nothing on it that is needed.")
@click.option(
    "--keep", "keep_days", type=click.IntRange(0, 36500), metavar="DAYS",
    help="Then its cartridges may be written anew [default: never].",
)  # fmt: skip
@json_option
def backup(
    path: str, catalogue: Path | None, record_size: int | None, history: Any, level: int, update: bool,
    overwrite: bool, labels: bool, new_cartridge: bool, keep_days: int | None, wait_s: int, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Back up PATH, a directory of a volume as the NDMP server names it.

    It becomes one tape file of the cartridge in the drive. With --changer or --labels it goes to labelled cartridges,
    behind earlier backups or on one that holds nothing that is needed, and on to the next when one is full.
    """
    from mover.dma import BackupOptions, run_backup

    changer, element = changer_name(options), options.pop("drive_element")
    if changer is None and not labels:
        keeps = keep_days is not None
        for name, value in (("--new-cartridge", new_cartridge), ("--keep", keeps), ("--wait", wait_s)):
            if value:
                raise click.UsageError(f"{name} needs --changer or --labels")
    elif overwrite:
        raise click.UsageError("--overwrite is not for labelled cartridges: --new-cartridge, or mover cartridge label")
    job = BackupOptions(
        **session(options), filesystem=path, history=history, level=level, update=update,
        overwrite=overwrite, changer=changer, drive_element=element, labels=labels, new_cartridge=new_cartridge,
        keep_s=None if keep_days is None else keep_days * 86400, wait_s=wait_s,
        **_given(catalogue=catalogue, record_size=record_size),
    )  # fmt: skip
    result = run_job(run_backup, job, quiet=as_json)
    work_is_done()
    if as_json:
        print_json(document(result))
        return
    on = f"cartridges {' '.join(result.cartridges)}, " if result.cartridges else ""
    rate = f", {size(result.bytes_processed / result.elapsed_s)}/s" if result.elapsed_s > 0 else ""
    click.echo(
        f"job {result.job}: {size(result.bytes_processed)} in {duration(result.elapsed_s)}{rate}, "
        f"{result.files} {'name' if result.files == 1 else 'names'}, {on}tape file {result.tape_file}, "
        f"{encrypted(result.encryption)}warnings: {len(result.warnings)}"
    )


@click.command()
@click.argument("names", nargs=-1)
@session_options(required=True)
@catalogue_option
@click.option(
    "--destination", metavar="DIRECTORY", shell_complete=directories,
    help="On the server, as an absolute path [default: the original place, what is there is overwritten].",
)  # fmt: skip
@click.option(
    "--job", type=NumberType(63), metavar="ID", help="As `mover list` shows it [default: the newest good one]."
)
@click.option("--tape-file", type=NumberType(32), metavar="N", help="Recover tape file N without asking the catalogue.")
@click.option(
    "--rename", "renames", type=PairType(), multiple=True, metavar="NAME=OTHER",
    help="Recover NAME as OTHER below the destination; may be repeated.",
)  # fmt: skip
@click.option("--record-size", type=SizeType(), metavar="SIZE", help="Bytes per mover record [default: the job's].")
@click.option(
    "--direct", is_flag=True, help="Let the server go straight to the names by the catalogue's positions, if it can."
)
@changer_options(required=False)
@json_option
def recover(
    names: tuple[str, ...], catalogue: Path | None, destination: str | None, job: int | None, tape_file: int | None,
    renames: tuple[tuple[str, str], ...], record_size: int | None, direct: bool, wait_s: int, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Recover NAMES, paths below the root of the backup, or everything."""
    from mover.dma import RecoverOptions, run_recover

    if job is not None and tape_file is not None:
        raise click.UsageError("--job and --tape-file exclude each other")
    changer, element = changer_name(options), options.pop("drive_element")
    if tape_file is not None and (changer is not None or wait_s):
        raise click.UsageError("--tape-file reads what is in the drive, without --changer and --wait")
    if tape_file is None:
        _refuse_without_tape_file(["butype"])  # the job's type is known
    if destination == "":
        raise click.UsageError("--destination is empty; without it everything goes to its original place")
    if destination is not None and not destination.startswith("/"):
        raise WrongConfiguration(f"--destination {destination}: expected an absolute path, as the server names it")
    if "" in names:
        # Of a variable of a script that is not set: it would be everything, over the original place.
        raise click.UsageError("a name is empty; without names everything is recovered")
    wanted = RecoverOptions(
        **session(options), destination=destination or "", names=list(names), renames=list(renames), job=job,
        tape_file=tape_file, record_size=record_size, direct=direct, changer=changer, drive_element=element,
        wait_s=wait_s, **_given(catalogue=catalogue),
    )  # fmt: skip
    result = run_job(run_recover, wanted, quiet=as_json)
    work_is_done()
    if as_json:
        print_json(document(result))
    else:
        report_failed(result.failed)
        what = f"{result.recovered} of {result.requested} names" if names or renames else "everything"
        if result.failed and not (names or renames):
            what = "not everything"
        click.echo(
            f"{what} recovered, {size(result.bytes_processed)} in {duration(result.elapsed_s)}, "
            f"{encrypted(result.encryption)}warnings: {len(result.warnings)}"
        )
    if result.failed:
        click.get_current_context().exit(1)


@click.command("list")
@click.argument("pattern", required=False)
@session_options(required=False)
@catalogue_option
@click.option("--job", type=NumberType(63), metavar="ID", help="List what this job backed up.")
@click.option("--tape-file", type=NumberType(32), metavar="N", help="Read tape file N instead of the catalogue.")
@click.option("--record-size", type=SizeType(), metavar="SIZE", help="With --tape-file [default: 64KiB].")
@json_option
def list_(
    pattern: str | None, catalogue: Path | None, job: int | None, tape_file: int | None, record_size: int | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """List the jobs of the catalogue, or what a job or a tape file holds.

    PATTERN is a path, for it and everything below, or has * ? [ and stands for whole paths. Servers and login are
    needed only with --tape-file.
    """
    from mover.dma import ListOptions, TapeListOptions, run_list

    if job is not None and tape_file is not None:
        raise click.UsageError("--job and --tape-file exclude each other")
    from_tape = None
    if tape_file is not None:
        for name in ("host", "drive", "user"):
            if options[name] is None:
                raise click.UsageError(f"--tape-file needs --{name}")
        from_tape = TapeListOptions(**session(options), tape_file=tape_file, **_given(record_size=record_size))
    else:
        _refuse_without_tape_file(["record_size", *options])
        if pattern is not None and job is None:
            raise click.UsageError("PATTERN needs --job or --tape-file")
    wanted = ListOptions(job=job, pattern=pattern, from_tape=from_tape, **_given(catalogue=catalogue))
    result = run_job(run_list, wanted, quiet=as_json or from_tape is None)
    if job is None and from_tape is None:
        _print_jobs(result.jobs, as_json)
    else:
        for each in result.jobs:
            if each.status != "successful":
                because = f": {each.message}" if each.message else ""
                click.echo(printable(f"job {each.job} is {each.status}{because}"), err=True)
        _print_entries(result.entries, as_json)
        if pattern is not None and not result.entries:
            where = f"job {job}" if job is not None else f"tape file {tape_file}"
            raise Failure(f"nothing in the file history of {where} matches {pattern}")


def _refuse_without_tape_file(names: list[str]) -> None:
    """Options that would do nothing where the catalogue has the answer."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(each for each in context.command.params if each.name == name)
            raise click.UsageError(f"{option.opts[0]} needs --tape-file")


def _print_jobs(jobs: list["Job"], as_json: bool) -> None:
    if as_json:
        print_json({"jobs": [document(each) for each in jobs]})
        return
    if not jobs:
        click.echo("no jobs")
        return
    columns = [
        "job",
        "started",
        "status",
        "type",
        "level",
        "file system",
        "server",
        "drive",
        "tape file",
        "cartridges",
        "bytes",
        "names",
    ]
    rows = [
        [each.job, _local_time(each.started), each.status, each.butype, each.level, each.filesystem,
         each.data_server,
         f"{each.tape_server} {each.drive}", each.tape_file, " ".join(each.cartridges), each.bytes_processed,
         each.files]
        for each in jobs
    ]  # fmt: skip
    print_table(columns, rows)


def _print_entries(entries: list["Entry"], as_json: bool) -> None:
    if as_json:
        rows = []
        for entry in entries:
            row = document(entry)
            row["ftype"] = None if entry.ftype is None else entry.ftype.name.lower()
            rows.append(row)
        print_json({"entries": rows})
        return
    for entry in entries:
        kind = "-" if entry.ftype is None else entry.ftype.name.lower()
        mode = "-" if entry.mode is None else f"{entry.mode:04o}"
        owner = "-" if entry.owner is None else f"{entry.owner}/{entry.group}"
        # Servers tell the size of regular files, and 0 for what has no content.
        length = "-" if entry.size is None or (not entry.size and kind != "reg") else str(entry.size)
        mtime = "-" if entry.mtime is None else _local_time(entry.mtime)
        path = printable(entry.path.decode("utf-8", "surrogateescape"))
        click.echo(f"{kind:<8} {mode:>4} {owner:>11} {length:>12} {mtime:>16} {path}")


def _local_time(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
