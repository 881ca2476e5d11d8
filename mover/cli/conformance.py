"""`mover conformance`: test any NDMP server against the specifications."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final  # Any: click's own values

import click

from mover.cli.control_process import json_option
from mover.cli.failure import Failure
from mover.cli.job_options import ServerType, add_options, read_password
from mover.cli.output import Cell, print_json, print_table, printable
from mover.cli.paths import FILE
from mover.cli.tls_options import TLS_OPTIONS, take_tls
from mover.conformance.options import DEFAULT_PORT, DEFAULT_TIMEOUT_S, GROUPS, SECURE_PORT, VERSIONS, Options, Tls

if TYPE_CHECKING:
    from mover.conformance.results import Report, Row

EVERY_ROWS: Final = 50  # between two lines of progress where nobody looks at a terminal


class ListType(click.ParamType[tuple[Any, ...]]):
    """Some of a list, separated by commas, each once and in the order of the list."""

    name = "list"

    def __init__(self, allowed: tuple[Any, ...]) -> None:
        self._allowed = {str(each): each for each in allowed}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        asked = [each.strip() for each in str(value).split(",")]
        for each in asked:
            if each not in self._allowed:
                self.fail(f"expected some of {','.join(self._allowed)}, got {each!r}", param, ctx)
        return tuple(content for text, content in self._allowed.items() if text in asked)


class NotReachedFailure(Failure):
    """The server was not reached."""

    exit_code = 3


@click.command()
@click.argument("server", type=ServerType(), metavar="HOST[:PORT]")
@click.option("--user", required=True, metavar="NAME", help="Login.")
@click.option(
    "--password-file", envvar="MOVER_PASSWORD_FILE", metavar="FILE", type=FILE,
    help="Its first line is the password [default: $MOVER_PASSWORD_FILE, else asked for].",
)  # fmt: skip
@click.option("--password", metavar="TEXT", help="The password itself, which every process of this machine can see.")
@click.option(
    "--auth", type=click.Choice(["auto", "md5", "text"]), default="auto", show_default=True,
    help="auto: MD5 where offered, else TEXT, which sends the password in clear.",
)  # fmt: skip
@click.option(
    "--versions", type=ListType(VERSIONS), default=",".join(map(str, VERSIONS)), show_default=True, metavar="N,...",
    help="Protocol versions to check.",
)  # fmt: skip
@click.option(
    "--groups", type=ListType(GROUPS), default=",".join(GROUPS), show_default=True, metavar="NAME,...",
    help="Groups of checks.",
)  # fmt: skip
@click.option("--match", default="", metavar="TEXT", help="Only the checks whose name has TEXT in it.")
@click.option("--tape-device", metavar="NAME", help="A drive with a cartridge, as the server names it; read only.")
@click.option("--write", is_flag=True, help="OVERWRITE the cartridge in --tape-device.")
@click.option(
    "--filesystem", metavar="PATH", help="A directory of the server to back up; 32 MiB or more show every state."
)
@click.option("--recover-to", metavar="PATH", help="A directory of the server that recovers may write into.")
@click.option("--changer", metavar="NAME", help="A SCSI device of the server to open and ask for its name.")
@click.option(
    "--sessions", type=click.IntRange(0, 10_000), default=0, metavar="N",
    help="Open up to N sessions at once, to see the one past the server's limit refused.",
)  # fmt: skip
@click.option(
    "--shutdown-pid", type=click.IntRange(2), metavar="PID",
    help="END the server's process of this machine (SIGTERM) when all else is done, to see its sessions told.",
)  # fmt: skip
@click.option("--type", "butype", default="dump", show_default=True, metavar="TYPE", help="Backup type.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=DEFAULT_TIMEOUT_S, show_default=True, metavar="SECONDS",
    help="Deadline of one check; a real drive may need minutes.",
)  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Print the checks that passed as well.")
@add_options(TLS_OPTIONS)
@json_option
def conformance(
    server: tuple[str, int | None], user: str, password_file: str | None, password: str | None,
    timeout: float, show_all: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Test an NDMP server against the specifications.

    Asks every message in every state that can be reached, and prints what is wrong with the clause behind it. What
    needs a drive, a directory to back up or one to recover into is skipped unless that is named. Nothing is written
    without --write and --recover-to. Exit status: 0 nothing failed, 1 something failed, 3 the server was not reached.
    """
    from mover.conformance.results import NotReachedError
    from mover.conformance.run import run

    if password is not None and password_file is not None:
        raise click.UsageError("--password and --password-file exclude each other")
    if options["write"] and options["tape_device"] is None:
        raise click.UsageError("--write needs --tape-device")
    host, port = server
    tls = take_tls(options)
    wanted = Options(
        host=host,
        port=port if port is not None else DEFAULT_PORT if tls is None else SECURE_PORT,
        tls=None if tls is None else Tls(tls.ca, tls.fingerprints),
        user=user,
        password=_password(user, password, password_file),
        timeout_s=timeout,
        **options,
    )
    if wanted.write:
        click.echo(printable(f"the cartridge in {wanted.tape_device} is overwritten"), err=True)
    with _progress() as progress:
        try:
            report = run(wanted, progress)
        except NotReachedError as error:
            raise NotReachedFailure(f"cannot connect to {wanted.host}:{wanted.port}: {error}") from None
    if as_json:
        _print_json(report)
    else:
        _print(report, wanted.versions, show_all=show_all)
    if report.counts()["fail"]:
        sys.exit(1)


def _password(user: str, password: str | None, password_file: str | None) -> str:
    if password is not None:
        return password
    if password_file is not None:
        return read_password(password_file)
    if not sys.stdin.isatty():
        raise click.UsageError("--password-file (or $MOVER_PASSWORD_FILE) is needed where nobody can be asked")
    answer: str = click.prompt(f"NDMP password of {user}", hide_input=True, err=True)
    return answer


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """What to tell each row: a line that runs on a terminal, else a line for each failure and each many checks."""
    terminal = sys.stderr.isatty()
    done = failed = 0

    def tell(row: "Row") -> None:
        nonlocal done, failed
        done += 1
        wrong = row.result == "fail"
        failed += wrong
        if terminal:
            click.echo(f"\r{done} checks, {failed} failed, version {row.version}, {row.group:<8}", err=True, nl=False)
        elif wrong:
            click.echo(printable(f"fail: version {row.version}: {row.check}: {row.detail}"), err=True)
        elif done % EVERY_ROWS == 0:
            click.echo(f"{done} checks, {failed} failed, version {row.version}, {row.group}", err=True)

    yield tell
    if terminal:
        click.echo(err=True)


def _print_json(report: "Report") -> None:
    import msgspec

    document = msgspec.to_builtins(report)
    for row in document["rows"]:
        row["detail"] = printable(row["detail"])
    print_json({**document, "counts": report.counts()})


def _print(report: "Report", versions: tuple[int, ...], *, show_all: bool) -> None:
    rows = [row for row in report.rows if show_all or row.result == "fail"]
    if rows:
        columns = ["version", "group", "check", "result", "clause", "detail"]
        print_table(columns, [[r.version, r.group, r.check, r.result.value, r.clause, r.detail] for r in rows])
        click.echo()
    why: dict[tuple[str, str], int] = {}
    for row in report.rows:
        if row.result in {"skipped", "not offered"}:
            why[row.result.value, row.detail] = why.get((row.result.value, row.detail), 0) + 1
    if not show_all and why:
        print_table(["checks", "result", "why"], [[count, result, detail] for (result, detail), count in why.items()])
        click.echo()
    counted: list[list[Cell]] = [[str(version), *report.counts(version).values()] for version in versions]
    counted.append(["all", *report.counts().values()])
    print_table(["version", *report.counts()], counted)
