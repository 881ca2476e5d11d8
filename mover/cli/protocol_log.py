"""`mover log start`, `mover log stop`: the protocol log of one NDMP session."""

from collections.abc import Callable
from typing import Any, TypeVar  # Any: any command function

import click
import msgspec

from mover.admin.sessions import LogReply, LogStart, LogStop
from mover.cli.completion import sessions
from mover.cli.control_process import admin_socket_option, ask, json_option
from mover.cli.output import print_json
from mover.cli.streams import work_is_done
from mover.config.debug_filter import INTERFACES, interfaces

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _check_advanced(_: click.Context, __: click.Parameter, value: bool) -> bool:
    if not value:
        raise click.UsageError(
            "a protocol log holds names and data of the DMA's files, so it is of the advanced privilege: add --advanced"
        )
    return value


def _check_filter(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        interfaces(value)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}, got {value!r}") from None
    return value


def _session_options(command: _Command) -> _Command:
    command = click.option(
        "--advanced", is_flag=True, callback=_check_advanced, expose_value=False, help="Needed: the advanced privilege."
    )(command)
    return click.option(
        "--session-id",
        type=int,
        required=True,
        metavar="ID",
        shell_complete=sessions,
        help="As `mover status` shows it.",
    )(command)


@click.group()
def log() -> None:
    """The protocol log of an NDMP session: every message decoded, without passwords."""


@log.command()
@_session_options
@click.option(
    "--filter", "filter_text", default="all", show_default=True, metavar="F", callback=_check_filter,
    help=f"all, normal (without fh and log), or interfaces joined by + and -: {', '.join(INTERFACES)}.",
)  # fmt: skip
@admin_socket_option
@json_option
def start(session_id: int, filter_text: str, admin_socket: str | None, as_json: bool) -> None:
    """Log the messages of a session from now on, to a file in the state directory."""
    reply = ask(admin_socket, LogStart(session_id, filter_text), LogReply)
    work_is_done()
    if as_json:
        _print(reply)
    else:
        click.echo(f"session {session_id} is logged to {reply.path}")


@log.command()
@_session_options
@admin_socket_option
@json_option
def stop(session_id: int, admin_socket: str | None, as_json: bool) -> None:
    """End the log of a session."""
    reply = ask(admin_socket, LogStop(session_id), LogReply)
    work_is_done()
    if as_json:
        _print(reply)
        return
    text = f"{reply.messages} messages of session {session_id} are in {reply.path}"
    click.echo(f"{text}, {reply.left_out} came too fast and are not" if reply.left_out else text)


def _print(reply: LogReply) -> None:
    document = msgspec.to_builtins(reply)
    del document["type"]
    print_json(document)
