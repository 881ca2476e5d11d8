"""`mover extensions show`, `mover extensions modify`: which NDMP extensions are offered to DMAs."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar  # Any: any command function

import click

from mover.admin.options import OptionsModify, OptionsReply, OptionsShow
from mover.cli.completion import vservers
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.options import vserver_option
from mover.cli.output import print_json, print_table
from mover.config.options import EXTENSIONS

FIELDS: Final = ("vserver", "class", "versions", "enabled", "origin", "offered", "meaning")
VALUES: Final = {"on": "true", "off": "false"}
RESET: Final = "default"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Extension(NamedTuple):
    """What people are told of a class: what it is for, and where it is offered once it is on."""

    meaning: str
    offered: str
    versions: tuple[int, ...]


KNOWN: Final = {
    0x2051: Extension("CAE, data connections over IPv6", "always", (1,)),
    0x2052: Extension("CAB, cluster aware backup", "with vservers or in a cluster", (1,)),
    0x7FF0: Extension("TEST_ECHO, for tests of the negotiation", "always", (1, 2)),
}


class _ClassType(click.ParamType[int]):
    """A class as it is printed: four hexadecimal digits, 0x in front or not."""

    name = "class"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        names = {f"{each:04x}": each for each in KNOWN}
        number = value if isinstance(value, int) else names.get(value.lower().removeprefix("0x"))
        if number is None:
            self.fail(f"{value!r} is not one of {', '.join(f'0x{each}' for each in names)}", param, ctx)
        return number


def _check_advanced(_: click.Context, __: click.Parameter, value: bool) -> bool:
    if not value:
        raise click.UsageError(
            "DMAs may depend on what is offered to them, so this is of the advanced privilege: add --advanced"
        )
    return value


def _advanced(command: _Command) -> _Command:
    return click.option(
        "--advanced", is_flag=True, callback=_check_advanced, expose_value=False, help="Needed: the advanced privilege."
    )(command)


@click.group()
def extensions() -> None:
    """The extensions of NDMP version 4 that are offered to DMAs."""


@extensions.command("show")
@click.option(
    "--vserver", metavar="V", default="", shell_complete=vservers,
    help="Of this vserver; '*' = of all [default: of the node].",
)  # fmt: skip
@_advanced
@admin_socket_option
@json_option
def show(vserver: str, admin_socket: str | None, as_json: bool) -> None:
    """Show each extension class and whether it is on."""
    reply = ask(admin_socket, OptionsShow(None if vserver == "*" else vserver), OptionsReply)
    classes = {option: number for number, option in EXTENSIONS.items()}
    rows = [
        (
            each.vserver, f"0x{number:04x}", list(KNOWN[number].versions), each.value == VALUES["on"], each.origin,
            KNOWN[number].offered, KNOWN[number].meaning,
        )
        for each in reply.options
        if (number := classes.get(each.option)) is not None
    ]  # fmt: skip
    if as_json:
        print_json({"extensions": [dict(zip(FIELDS, row, strict=True)) for row in rows]})
    else:
        print_table(FIELDS, [[",".join(map(str, x)) if isinstance(x, list) else x for x in row] for row in rows])


@extensions.command("modify")
@click.argument("number", metavar="CLASS", type=_ClassType())
@click.argument("value", metavar="on|off|default", type=click.Choice([*VALUES, RESET]))
@vserver_option
@_advanced
@admin_socket_option
@json_option
def modify(number: int, value: str, vserver: str, admin_socket: str | None, as_json: bool) -> None:
    """Offer an extension CLASS to new connections, or no more; default = as the configuration says."""
    option = EXTENSIONS[number]
    if value == RESET:
        do(admin_socket, OptionsModify(vserver, {}, [option]), as_json=as_json)
    else:
        do(admin_socket, OptionsModify(vserver, {option: VALUES[value]}), as_json=as_json)
