"""`mover top`: how it is started, and what it prints where nothing is to be drawn."""

import sys

import click
import msgspec

from mover.admin.statistics import StatisticsReply, StatisticsShow
from mover.cli.control_process import admin_socket_option, ask, configured_socket, json_option
from mover.cli.output import print_json

INTERVAL_MIN_S = 0.2
INTERVAL_MAX_S = 3600.0


@click.command()
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(INTERVAL_MIN_S, INTERVAL_MAX_S),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Print the tables once, as plain lines.")
@click.option(
    "--ascii/--unicode", "in_ascii", default=None, help="Which letters it draws with [default: the locale's]."
)
@admin_socket_option
@json_option
def top(interval_s: float, once: bool, in_ascii: bool | None, admin_socket: str | None, as_json: bool) -> None:
    """Watch jobs, rings, processes, drives and sessions, live; the key ? tells what the others do.

    --once and --json print what is to be seen now, for scripts. Sessions can be ended after a question.
    """
    socket = admin_socket or configured_socket()
    reply = ask(socket, StatisticsShow(history=True), StatisticsReply)
    if as_json:
        document = msgspec.to_builtins(reply)
        del document["type"]  # the socket's
        print_json(document)
        return
    from mover.cli.top.drawing import ASCII, UNICODE, Look, started_environment, utf8

    if once:
        from mover.cli.top.plain import plain_lines

        encoded_so = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
        look = Look(ASCII if in_ascii or (in_ascii is None and not encoded_so) else UNICODE)
        click.echo("\n".join(plain_lines(reply, look)))
        return
    from mover.cli.top.feed import can_draw

    if not can_draw():
        raise click.UsageError("this is no terminal; --once or --json print what is to be seen")
    from mover.cli.top.app import Top

    look = Look(ASCII if in_ascii or (in_ascii is None and not utf8(started_environment())) else UNICODE)
    app = Top(socket, reply, interval_s=interval_s, look=look)
    app.run()
    sys.exit(app.return_code or 0)
