"""`mover show`, `mover modify`, `mover on`, `mover off`: the options of the service, while it runs."""

from collections.abc import Callable
from typing import Any, Final, TypeVar  # Any: any command function, and the values of its options

import click
import msgspec

from mover.admin.options import OptionsModify, OptionsReply, OptionsShow, OptionStatus
from mover.cli.completion import vservers
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.output import print_json, print_table
from mover.config.options import EXTENSIONS, NOT_APPLICABLE, OPTIONS

FIELDS: Final = OptionStatus.__struct_encode_fields__
_ALLOWED, _DISALLOWED = "allowed_protocols", "disallowed_protocols"

_Command = TypeVar("_Command", bound=Callable[..., Any])

vserver_option = click.option(
    "--vserver", metavar="V", default="", shell_complete=vservers, help="Of this vserver [default: of the node]."
)


def _an_option_each(command: _Command) -> _Command:
    """Add an option for each that can be changed, and one, not shown, for each that is refused with its reason."""
    for name in reversed([*NOT_APPLICABLE, *OPTIONS]):
        if name == "enable" or name in EXTENSIONS.values():
            continue  # `mover on`, `mover off`, `mover extensions modify`
        row = OPTIONS.get(name)
        command = click.option(f"--{name}", metavar="VALUE", help=row and row.meaning, hidden=row is None)(command)
    return command


def _fields(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",")) if value is not None else FIELDS
    for name in names:
        if name not in FIELDS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(FIELDS)}")
    return names


@click.command()
@click.option(
    "--vserver", metavar="V", default="", shell_complete=vservers,
    help="Of this vserver; '*' = of all [default: of the node].",
)  # fmt: skip
@click.option("--option", "wanted", metavar="NAME", help="Only this option.")
@click.option("--origin", type=click.Choice(["default", "config", "modified"]), help="Only those from there.")
@click.option("--fields", callback=_fields, metavar="A,B,...", help="Only these fields, in this order.")
@admin_socket_option
@json_option
def show(
    vserver: str, wanted: str | None, origin: str | None, fields: tuple[str, ...], admin_socket: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the options of the service, and where each value comes from."""
    if wanted is not None and wanted not in OPTIONS:
        known = f"it is not applicable: {NOT_APPLICABLE[wanted]}" if wanted in NOT_APPLICABLE else "there is none such"
        raise click.BadParameter(known, param_hint="--option")
    reply = ask(admin_socket, OptionsShow(None if vserver == "*" else vserver), OptionsReply)
    rows: list[dict[str, Any]] = [
        msgspec.to_builtins(each)
        for each in reply.options
        if wanted in {None, each.option} and origin in {None, each.origin}
    ]
    if as_json:
        print_json({"options": [{name: row[name] for name in fields} for row in rows]})
    else:
        print_table(fields, [[row[name] for name in fields] for row in rows])


@click.command()
@vserver_option
@_an_option_each
@click.option("--allowed-protocols", metavar="ndmp", help="ndmp = the vserver's LIFs take connections again.")
@click.option(
    "--reset", multiple=True, metavar="OPTION", help="Back to what the configuration says; may be given repeatedly."
)
@admin_socket_option
@json_option
def modify(vserver: str, reset: tuple[str, ...], admin_socket: str | None, as_json: bool, **values: str | None) -> None:
    """Change options of the service; they count for new connections, and outlast a restart."""
    allowed = values.pop(_ALLOWED)
    if allowed is not None:
        if allowed != "ndmp":
            raise click.BadParameter("ndmp is the only protocol here", param_hint="--allowed-protocols")
        if values[_DISALLOWED] is not None:
            raise click.UsageError("either --allowed-protocols or --disallowed-protocols")
        values[_DISALLOWED] = "-"
    if switches := sorted(set(reset) & set(EXTENSIONS.values())):
        raise click.BadParameter(f"{switches[0]} is reset by `mover extensions modify`", param_hint="--reset")
    changes = {name.replace("_", "-"): value for name, value in values.items() if value is not None}
    if not changes and not reset:
        raise click.UsageError("nothing to change; --help lists the options")
    do(admin_socket, OptionsModify(vserver, changes, list(reset)), as_json=as_json)


@click.command()
@vserver_option
@admin_socket_option
@json_option
def on(vserver: str, admin_socket: str | None, as_json: bool) -> None:
    """Take connections again."""
    do(admin_socket, OptionsModify(vserver, {"enable": "true"}), as_json=as_json)


@click.command()
@vserver_option
@admin_socket_option
@json_option
def off(vserver: str, admin_socket: str | None, as_json: bool) -> None:
    """Take no more connections; those that are there go on."""
    do(admin_socket, OptionsModify(vserver, {"enable": "false"}), as_json=as_json)
