"""Options that backup, recover and list share: the servers, the login, the drive, the catalogue."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar  # Any: any command function, and click's own values

import click

from mover.cli.completion import drives
from mover.cli.failure import Failure
from mover.cli.paths import FILE
from mover.cli.tls_options import TLS_OPTIONS, take_tls
from mover.config.values import parse_size

if TYPE_CHECKING:
    from mover.dma import Credentials, Server, Tls

PASSWORD_BYTES_MAX: Final = 4096
WAIT_S_MAX: Final = 7 * 24 * 3600
RECORD_BYTES_MAX: Final = 16 << 20  # no drive writes a longer one
BLOCK_BYTES: Final = 512  # the smallest block of drives with fixed ones

_Command = TypeVar("_Command", bound=Callable[..., Any])


class NumberType(click.ParamType[int]):
    """A whole number from 0 that fits into so many bits of a message or a database."""

    name = "integer"

    def __init__(self, bits: int) -> None:
        self._range = click.IntRange(0, (1 << bits) - 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return int(self._range.convert(value, param, ctx))


class SizeType(click.ParamType[int]):
    """``65536`` or ``64KiB``: the size of a mover record.

    Args:
        of: it is a multiple of so many bytes.
    """

    name = "size"

    def __init__(self, of: int = 1) -> None:
        self._of = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = parse_size(int(value) if str(value).isdecimal() else value)
        except ValueError as error:
            self.fail(f"expected {error}, got {value!r}", param, ctx)
        if size > RECORD_BYTES_MAX:
            self.fail(f"expected at most {RECORD_BYTES_MAX} bytes, got {value!r}", param, ctx)
        if size % self._of:
            self.fail(f"expected a multiple of {self._of} bytes, got {value!r}", param, ctx)
        return size


class ServerType(click.ParamType[tuple[str, int | None]]):
    """``HOST``, ``HOST:PORT``, ``[ADDRESS]:PORT``."""

    name = "server"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        text = str(value)
        host, colon, port = text.rpartition(":")
        if not colon or (text.count(":") > 1 and not host.endswith("]")):  # a host, or a bare IPv6 address
            host, port = text, ""
        elif not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
            self.fail(f"expected HOST[:PORT], got {text!r}", param, ctx)
        host = host.removeprefix("[").removesuffix("]")
        if not host:
            self.fail(f"expected HOST[:PORT], got {text!r}", param, ctx)
        return host, int(port) if port else None


class PairType(click.ParamType[tuple[str, str]]):
    """Two words with an equals sign between, as its option's metavar says."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, content = str(value).partition("=")
        if not name or not equals:
            form = (param and param.metavar) or "NAME=VALUE"
            self.fail(f"expected {form}, got {value!r}", param, ctx)
        return name, content


def catalogue_option(command: _Command) -> _Command:
    """Add ``--catalogue``; None = the DMA's default."""
    return click.option(
        "--catalogue",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="SQLite file of jobs and file histories [default: ~/.local/share/mover/catalogue.sqlite].",
    )(command)


def session_options(*, required: bool) -> Callable[[_Command], _Command]:
    """Add what a job over NDMP needs; ``session()`` turns the values into the DMA's own."""
    options = [
        click.option(
            "--host", "--data", "host", type=ServerType(), required=required, metavar="HOST[:PORT]",
            help="The NDMP server of the files, and of the drive unless --tape-host is given.",
        ),
        click.option(
            "--tape-host", "--tape", "tape_host", type=ServerType(), metavar="HOST[:PORT]",
            help="Three-way: the NDMP server of the drive.",
        ),
        *_login_options(required=required),
        click.option(
            "--tape-user", metavar="NAME",
            help="Three-way: the login at --tape-host, or the drive's node [default: that of --user].",
        ),
        click.option(
            "--tape-password-file", metavar="FILE", type=FILE,
            help="Its first line is the password of --tape-user [default: asked for].",
        ),
        click.option("--data-listens", is_flag=True, help="Three-way: the data server listens, the mover connects."),
        click.option("--type", "butype", default="dump", show_default=True, metavar="TYPE", help="Backup type."),
        click.option(
            "-E", "--env", "env", type=PairType(), multiple=True, metavar="NAME=VALUE",
            help="A variable of the backup type's environment; may be repeated.",
        ),
    ]  # fmt: skip
    return add_options(options)


def tape_options() -> Callable[[_Command], _Command]:
    """Add what a job about cartridges alone needs; ``tape_session()`` turns the values into the DMA's own."""
    host = click.option(
        "--host", type=ServerType(), required=True, metavar="HOST[:PORT]", help="The NDMP server of the drive."
    )
    return add_options([host, *_login_options(required=True)])


def changer_options(*, required: bool, waits: bool = True) -> Callable[[_Command], _Command]:
    """Add the changer and, if the job can wait for one, the operator."""
    options = [
        click.option(
            "--changer", required=required, metavar="NAME", help="As the tape's server names it: vtl0/changer."
        ),
        click.option(
            "--drive-element", type=NumberType(16), metavar="N",
            help="Address of the drive in the changer [default: found by its identity].",
        ),
    ]  # fmt: skip
    if waits:
        options.append(
            click.option(
                "--wait", "wait_s", type=click.IntRange(0, WAIT_S_MAX), default=0, metavar="SECONDS",
                help="How long to wait for an operator to bring a cartridge that is missing.",
            )
        )  # fmt: skip
    return add_options(options)


def _login_options(*, required: bool) -> list[Callable[[_Command], _Command]]:
    return [
        click.option(
            "--drive", required=required, metavar="NAME", shell_complete=drives,
            help="As the server names it: vtl0/drive0.",
        ),
        click.option("--user", required=required, metavar="NAME", help="The login."),
        click.option(
            "--password-file", envvar="MOVER_PASSWORD_FILE", metavar="FILE", type=FILE,
            help="Its first line is the password [default: $MOVER_PASSWORD_FILE, else asked for].",
        ),
        click.option(
            "--auth", type=click.Choice(["auto", "md5", "text"]), default="auto", show_default=True,
            help="auto: MD5 where offered, else TEXT, which sends the password in clear.",
        ),
        click.option(
            "--ndmp-version", type=click.IntRange(2, 4), default=4, show_default=True,
            help="Highest version to ask for.",
        ),
        click.option(
            "--no-extensions", is_flag=True,
            help="Choose no extensions: follow no volume or drive to another node of a cluster, use no IPv6 for data.",
        ),
        *TLS_OPTIONS,
    ]  # fmt: skip


def add_options(options: Sequence[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    """Several options as one decorator, in the order of the help."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def session(options: dict[str, Any]) -> dict[str, Any]:
    """Take the values of session_options out of a command's options; returns the DMA's Session fields."""
    if options["data_listens"] and options["tape_host"] is None:
        raise click.UsageError("--data-listens needs --tape-host")
    tape_user, tape_file = options.pop("tape_user"), options.pop("tape_password_file")
    if tape_user is not None and options["tape_host"] is None and options["no_extensions"]:
        raise click.UsageError("--tape-user needs --tape-host, or the extensions that find the drive's node")
    if tape_file is not None and tape_user is None:
        raise click.UsageError("--tape-password-file needs --tape-user")
    tls, auth = take_tls(options), options.pop("auth")
    return {
        "data": server(options.pop("host"), tls),
        "tape": server(tape, tls) if (tape := options.pop("tape_host")) is not None else None,
        "credentials": _credentials(options.pop("user"), options.pop("password_file"), auth),
        "tape_credentials": None if tape_user is None else _credentials(tape_user, tape_file, auth, tape=True),
        "drive": options.pop("drive"),
        "butype": options.pop("butype"),
        "env": list(options.pop("env")),
        "max_version": options.pop("ndmp_version"),
        "extensions": not options.pop("no_extensions"),
        "data_listens": options.pop("data_listens"),
    }


def tape_session(options: dict[str, Any]) -> dict[str, Any]:
    """As ``session``, of tape_options and changer_options."""
    return {
        "data": server(options.pop("host"), take_tls(options)),
        "credentials": _credentials(options.pop("user"), options.pop("password_file"), options.pop("auth")),
        "drive": options.pop("drive"),
        "max_version": options.pop("ndmp_version"),
        "extensions": not options.pop("no_extensions"),
        "changer": changer_name(options),
        "drive_element": options.pop("drive_element"),
    }


def changer_name(options: dict[str, Any]) -> str | None:
    """Take --changer out of a command's options."""
    name: str | None = options.pop("changer")
    if name is None and options["drive_element"] is not None:
        raise click.UsageError("--drive-element needs --changer")
    return name


def server(host_port: tuple[str, int | None], tls: "Tls | None" = None) -> "Server":
    """A server as the DMA has it; without a port at the usual one."""
    from mover.dma import DEFAULT_PORT, SECURE_PORT, Server

    host, port = host_port
    return Server(host, port or (DEFAULT_PORT if tls is None else SECURE_PORT), tls)


def _credentials(user: str, password_file: str | None, method: Any, *, tape: bool = False) -> "Credentials":
    from mover.dma import Credentials

    option = "--tape-password-file" if tape else "--password-file (or $MOVER_PASSWORD_FILE)"
    return Credentials(user, password(user, password_file, option), method)


def password(user: str, file: str | None, option: str = "--password-file (or $MOVER_PASSWORD_FILE)") -> str:
    """A login's password: the file's first line, or without a file the answer of who sits at the terminal.

    Raises:
        Failure: as read_password.
    """
    if file is not None:
        return read_password(file)
    if not sys.stdin.isatty():
        raise click.UsageError(f"{option} is needed where nobody can be asked")
    return str(click.prompt(f"NDMP password of {user}", hide_input=True, err=True))


def read_password(path: str) -> str:
    """The first line of a file that others cannot read.

    Raises:
        Failure: it cannot be read, or others can read it, or it holds no password.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(PASSWORD_BYTES_MAX)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        raise Failure(f"{path}: refused, because others can read it (chmod o-r)")
    try:
        password = content.decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise Failure(f"{path}: expected the password as its first line, in UTF-8")
    return password
