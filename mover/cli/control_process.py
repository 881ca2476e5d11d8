"""Reaching the running control process from a command: the shared options and one question."""

import functools
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar  # Any: any command function

import click

from mover.admin import AdminClient, NoControlProcessError, RefusedError
from mover.admin.dump_dates import DumpDatesList
from mover.admin.jobs import Jobs
from mover.admin.messages import Done, Reply, Request, Version
from mover.admin.options import OptionsShow
from mover.admin.sessions import Status
from mover.admin.statistics import StatisticsShow
from mover.admin.tapes import LibraryShow, TapeShow
from mover.cli.failure import Failure, NoControlProcess, WrongConfiguration
from mover.cli.output import print_json, printable
from mover.cli.paths import FILE
from mover.cli.streams import work_is_done

CONFIG_DEFAULT: Final = "/etc/mover/mover.toml"

_ASKING: Final = (Status, Jobs, StatisticsShow, TapeShow, LibraryShow, OptionsShow, DumpDatesList, Version)
"""Change nothing, and so are asked of whatever server answers where a broken configuration has it."""

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
    wrong: WrongConfiguration | None = None
    try:
        path = admin_socket or configured_socket()
    except WrongConfiguration as error:
        wrong, path = error, _socket_all_the_same(error, request)
    try:
        with AdminClient(path) as client:
            if wrong is not None:
                _say_once(f"{wrong.message}; {path} answers, with the configuration it has")
            answer = client.ask(request)
    except NoControlProcessError as error:
        raise wrong or NoControlProcess(str(error)) from None
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
        WrongConfiguration: the configuration cannot be used (exit status 2).
    """
    from mover.config import ConfigError, Node, parse_config

    path = _configuration()
    if path is None:
        return Node().admin_socket
    try:
        return parse_config(path).node.admin_socket
    except ConfigError as error:
        raise WrongConfiguration(f"{error} (--admin-socket PATH asks a running server without it)") from None


def _configuration() -> str | None:
    path = os.environ.get("MOVER_CONFIG")  # empty is unset, as for every option that has a variable
    return path or (CONFIG_DEFAULT if os.path.exists(CONFIG_DEFAULT) else None)


def _socket_all_the_same(wrong: WrongConfiguration, request: Request) -> str:
    """Where to look for the running server with a configuration that cannot be used: operators break it while one runs.

    Raises:
        WrongConfiguration: the request would change something, or it is not clear where.
    """
    from mover.config import socket_in

    path = _configuration()
    found = socket_in(path) if path is not None and isinstance(request, _ASKING) else None
    if found is None:
        raise wrong
    return found


@functools.cache
def _say_once(text: str) -> None:
    click.echo(f"mover: {printable(text)}", err=True)
