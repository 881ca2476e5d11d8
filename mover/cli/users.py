"""`mover user`, `mover role`, `mover generate-password`: who may use the NDMP service."""

import sys
from typing import Any, Final  # Any: click's values of choices

import click
import msgspec

from mover.admin.accounts import (
    GeneratePassword,
    PasswordReply,
    RoleCreate,
    RoleDelete,
    RoleShow,
    RoleShowReply,
    UserCreate,
    UserDelete,
    UserModify,
    UserShow,
    UserShowReply,
)
from mover.cli.completion import vservers
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.job_options import read_password
from mover.cli.main import LazyGroup
from mover.cli.output import print_json, print_table
from mover.cli.paths import FILE
from mover.cli.streams import work_is_done

USER_COMMANDS: Final = {
    "create": "mover.cli.users:create_user",
    "show": "mover.cli.users:show_users",
    "modify": "mover.cli.users:modify_user",
    "delete": "mover.cli.users:delete_user",
}
ROLE_COMMANDS: Final = {
    "create": "mover.cli.users:create_role",
    "show": "mover.cli.users:show_roles",
    "delete": "mover.cli.users:delete_role",
}

_user = click.option("--user", required=True, metavar="NAME")
_role_name = click.option("--role", required=True, metavar="NAME")
_vservers = click.option(
    "--vserver", metavar="V[,V...]", shell_complete=vservers, help="The vservers that the user is bound to; '' = none.",
)  # fmt: skip
_volumes = click.option(
    "--volumes", metavar="NAME[,NAME...]",
    help="The volumes that the user reaches: NAME of the node's, VSERVER/NAME of a vserver's; '*' = all, '' = none.",
)  # fmt: skip
_devices = click.option(
    "--devices", metavar="NAME[,NAME...]",
    help="The drives and changers that the user reaches; '*' = all, '' = none.",
)  # fmt: skip
_password_file = click.option(
    "--password-file", metavar="FILE", type=FILE,
    help="Its first line is the login password of a local user [default: asked for].",
)  # fmt: skip
_method = click.Choice(["password", "none"])


@click.group(cls=LazyGroup, commands_in=USER_COMMANDS)
def user() -> None:
    """Show and change who may use the NDMP service."""


@click.group(cls=LazyGroup, commands_in=ROLE_COMMANDS)
def role() -> None:
    """Show and change the roles that users have."""


@click.command("create")
@_user
@click.option("--role", required=True, metavar="ROLE", help="admin, backup, vsadmin, vsadmin-backup, or one of yours.")
@_vservers
@click.option(
    "--source", type=click.Choice(["local", "system"]), default="local", show_default=True,
    help="Whose login password it is: mover's own, or the host's (NSS and PAM).",
)  # fmt: skip
@click.option(
    "--authentication-method", type=_method, default="password", show_default=True,
    help="How the user logs in; only with a password he may by NDMP.",
)  # fmt: skip
@_volumes
@_devices
@_password_file
@admin_socket_option
@json_option
def create_user(
    user: str, role: str, vserver: str | None, source: Any, authentication_method: Any, volumes: str | None,
    devices: str | None, password_file: str | None, admin_socket: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a user; `mover generate-password` then makes his NDMP password."""
    password = None
    if source == "local":
        password = _login_password(user, password_file)
    elif password_file is not None:
        raise click.UsageError("--password-file is of local users: the host has the login passwords of its own")
    do(
        admin_socket,
        UserCreate(
            user,
            role,
            source,
            _names(vserver) or [],
            password,
            authentication_method,
            _names("*" if volumes is None else volumes) or [],
            _names("*" if devices is None else devices) or [],
        ),
        as_json=as_json,
    )


@click.command("modify")
@_user
@click.option("--role", metavar="ROLE", help="His new role.")
@_vservers
@click.option("--authentication-method", type=_method, help="none: he may not log in, and his sessions are ended.")
@click.option("--password", "ask_password", is_flag=True, help="Ask for a new login password.")
@_volumes
@_devices
@_password_file
@admin_socket_option
@json_option
def modify_user(
    user: str, role: str | None, vserver: str | None, authentication_method: Any, ask_password: bool,
    volumes: str | None, devices: str | None, password_file: str | None, admin_socket: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Change a user. With a new login password his NDMP password does not count any more.

    Sessions of his are ended at LIFs where he may not log in as he is now, and all of them where he reaches other
    volumes or devices than before.
    """
    changes = password_file is not None or ask_password
    if not changes and role is vserver is authentication_method is volumes is devices is None:
        raise click.UsageError(
            "nothing to change: give --role, --vserver, --authentication-method, --volumes, --devices or a password"
        )
    password = _login_password(user, password_file) if changes else None
    do(
        admin_socket,
        UserModify(user, role, _names(vserver), password, authentication_method, _names(volumes), _names(devices)),
        as_json=as_json,
    )


@click.command("delete")
@_user
@admin_socket_option
@json_option
def delete_user(user: str, admin_socket: str | None, as_json: bool) -> None:
    """Delete a user, and end his sessions."""
    do(admin_socket, UserDelete(user), as_json=as_json)


@click.command("show")
@click.option("--user", metavar="NAME", help="Only this one.")
@admin_socket_option
@json_option
def show_users(user: str | None, admin_socket: str | None, as_json: bool) -> None:
    """List the users, and what their NDMP passwords are good for."""
    reply = ask(admin_socket, UserShow(user), UserShowReply)
    if as_json:
        print_json({"users": [msgspec.to_builtins(each) for each in reply.users]})
        return
    print_table(
        ["user", "role", "vservers", "volumes", "devices", "source", "authentication-method", "ndmp-password"],
        [
            [
                each.user, each.role, ",".join(each.vservers), ",".join(each.volumes) or "none",
                ",".join(each.devices) or "none", each.source, each.authentication_method, each.ndmp_password,
            ]
            for each in reply.users
        ],
    )  # fmt: skip


@click.command("create")
@_role_name
@click.option(
    "--access", type=click.Choice(["all", "readonly", "none"]), default="all", show_default=True,
    help="To the commands `vserver services ndmp`; with none its users may not log in by NDMP.",
)  # fmt: skip
@admin_socket_option
@json_option
def create_role(role: str, access: Any, admin_socket: str | None, as_json: bool) -> None:
    """Make a role of your own."""
    do(admin_socket, RoleCreate(role, access), as_json=as_json)


@click.command("delete")
@_role_name
@admin_socket_option
@json_option
def delete_role(role: str, admin_socket: str | None, as_json: bool) -> None:
    """Delete a role that no user has."""
    do(admin_socket, RoleDelete(role), as_json=as_json)


@click.command("show")
@click.option("--role", metavar="NAME", help="Only this one.")
@admin_socket_option
@json_option
def show_roles(role: str | None, admin_socket: str | None, as_json: bool) -> None:
    """List the roles."""
    reply = ask(admin_socket, RoleShow(role), RoleShowReply)
    if as_json:
        print_json({"roles": [msgspec.to_builtins(each) for each in reply.roles]})
        return
    print_table(["role", "access", "built-in"], [[each.role, each.access, each.built_in] for each in reply.roles])


@click.command()
@click.option("--vserver", default="", metavar="V", shell_complete=vservers, help="One that the user is bound to.")
@_user
@admin_socket_option
@json_option
def generate_password(vserver: str, user: str, admin_socket: str | None, as_json: bool) -> None:
    """Make the NDMP password of a user, in the place of the one he had.

    It counts until his login password changes, and is shown only now.
    """
    reply = ask(admin_socket, GeneratePassword(user, vserver), PasswordReply)
    work_is_done()
    if as_json:
        print_json({"vserver": reply.vserver, "user": reply.user, "password": reply.password})
        return
    if reply.vserver:
        click.echo(f"Vserver: {reply.vserver}")
    click.echo(f"User: {reply.user}")
    click.echo(f"Password: {reply.password}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for name in text.split(",") if name]


def _login_password(user: str, file: str | None) -> str:
    if file is not None:
        return read_password(file)
    if not sys.stdin.isatty():
        raise click.UsageError("--password-file is needed where nobody can be asked")
    return str(click.prompt(f"login password of {user}", hide_input=True, confirmation_prompt=True, err=True))
