"""`mover replay`: plays the client's side of a protocol log against a server."""

from pathlib import Path
from typing import Any  # Any: the login method's literal, and JSON values

import click

from mover.cli.control_process import json_option
from mover.cli.failure import Failure
from mover.cli.job_options import ServerType, add_options, read_password
from mover.cli.job_options import server as to_server
from mover.cli.output import print_json, printable
from mover.cli.paths import FILE
from mover.cli.tls_options import TLS_OPTIONS, take_tls


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("server", type=ServerType(), metavar="HOST[:PORT]", default="127.0.0.1")
@click.option("--user", metavar="NAME", help="For the logins of the log, which holds no secrets.")
@click.option(
    "--password-file", envvar="MOVER_PASSWORD_FILE", metavar="FILE", type=FILE,
    help="Its first line is the password [default: $MOVER_PASSWORD_FILE].",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.IntRange(1, 86400), default=120, show_default=True, metavar="SECONDS",
    help="How long the server may take for a reply or post.",
)  # fmt: skip
@add_options(TLS_OPTIONS)
@json_option
def replay(
    file: Path, server: tuple[str, int | None], user: str | None, password_file: str | None, timeout_s: int,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Send the requests of a protocol log FILE to a server, and report the first difference in what it answers.

    Drive, cartridge and files have to be as they were. Exit status 1 when there is a difference.
    """
    import trio

    from mover.dma import Credentials, DmaError
    from mover.dma.replay import run_replay

    target = to_server(server, take_tls(options))
    credentials = None
    if user is not None:
        if password_file is None:
            raise click.UsageError("--user needs --password-file (or $MOVER_PASSWORD_FILE)")
        credentials = Credentials(user, read_password(password_file))
    try:
        result = trio.run(lambda: run_replay(file, target, credentials, timeout_s=timeout_s))
    except DmaError as error:
        raise Failure(str(error)) from None
    found = result.difference
    if as_json:
        document: dict[str, Any] = {
            "requests": result.requests, "compared": result.compared, "notes": result.notes, "difference": None,
        }  # fmt: skip
        if found is not None:
            document["difference"] = {
                "line": found.line, "message": found.message, "field": found.field, "recorded": found.recorded,
                "replayed": found.replayed,
            }  # fmt: skip
        print_json(document)
        if found is not None:
            raise SystemExit(1)
        return
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    if found is not None:
        raise Failure(printable(str(found)))
    click.echo(f"{result.requests} requests played, {result.compared} replies and posts compared: no difference")
