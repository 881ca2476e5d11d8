"""Reaching the running control process from a command: the shared options and one question."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar  # Any: any command function

import click

from mover.admin import AdminClient, NoControlProcessError, RefusedError
from mover.admin.messages import Done, Reply, Request
from mover.cli.failure import Failure, NoControlProcess, WrongConfiguration
from mover.cli.output import print_json
from mover.cli.paths import FILE
from mover.cli.streams import work_is_done

CONFIG_DEFAULT: Final = "/etc/mover/mover.toml"

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Reply = TypeVar("_Reply", bound=Reply)


def admin_socket_option(command: _Command) -> _Command:
    """Add ``--admin-socket``; the command gets ``admin_socket``, None = look it up."""
    return click.option(
        "--admin-socket",
        envvar="MOVER_ADMIN_SOCKET",
        metavar="PATH",
        type=FILE,
        help="Socket of the control process [default: the configuration's].",
    )(command)


def json_option(command: _Command) -> _Command:
    """Add ``--json``; the command gets ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def ask(admin_socket: str | None, request: Request, reply: type[_Reply]) -> _Reply:
    """Send one request to the control process.

    Raises:
        Failure: it refused, answered with something else, or is not there (exit status 3).
    """
    try:
        with AdminClient(admin_socket or configured_socket()) as client:
            answer = client.ask(request)
    except NoControlProcessError as error:
        raise NoControlProcess(str(error)) from None
    except RefusedError as error:
        raise Failure(str(error)) from None
    if not isinstance(answer, reply):
        raise Failure(f"the control process answered {type(answer).__name__}")
    return answer


def do(admin_socket: str | None, request: Request, *, as_json: bool, names: str = "names") -> None:
    """Have the control process do something, and say what it has done.

    Args:
        names: what the JSON document calls the names of what was done.

    Raises:
        Failure: as ``ask``.
    """
    done = ask(admin_socket, request, Done)
    work_is_done()
    if as_json:
        print_json({"text": done.text, names: done.names})
    else:
        click.echo(done.text)


def configured_socket() -> str:
    """The admin socket that the configuration names; its default where there is no configuration.

    Raises:
        Failure: the configuration cannot be used (exit status 2).
    """
    from mover.config import ConfigError, Node, parse_config

    path = os.environ.get("MOVER_CONFIG")
    if not path:  # empty is unset, as for every option that has a variable
        if not os.path.exists(CONFIG_DEFAULT):
            return Node().admin_socket
        path = CONFIG_DEFAULT
    try:
        return parse_config(path).node.admin_socket
    except ConfigError as error:
        raise WrongConfiguration(str(error)) from None
