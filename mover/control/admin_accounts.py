"""The operators' requests about users, roles and NDMP passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from mover.admin import accounts as u
from mover.admin import messages as a
from mover.control.accounts import AccountError
from mover.control.reach import ALL, SCOPES, Bounds

if TYPE_CHECKING:
    from mover.control.node import Node

_SHOWING = (u.UserShow, u.RoleShow)


async def answer(node: Node, request: u.Request, operator: int) -> a.Reply:
    """Do what is asked for, and note in the audit log who asked.

    Args:
        operator: the user id at the other end of the admin socket.
    """
    try:
        reply = await _do(node, request)
    except AccountError as error:
        reply = a.Failed(error.code, str(error))
    if not isinstance(request, _SHOWING):
        node.audit.event(
            "operator",
            what=type(request).__name__,
            target=request.role if isinstance(request, (u.RoleCreate, u.RoleDelete)) else request.user,
            result="refused" if isinstance(reply, a.Failed) else "done",
            uid=operator,
        )
    return reply


async def _do(node: Node, request: u.Request) -> a.Reply:
    accounts = node.accounts
    match request:
        case u.UserCreate():
            _check_devices(node, request.devices)
            await accounts.create(
                request.user, request.source, request.role, request.vservers, request.password,
                password_login=request.authentication_method == "password",
                bounds=Bounds(tuple(request.volumes), tuple(request.devices)),
            )  # fmt: skip
            return a.Done(f"user {request.user} is made", [request.user])
        case u.UserModify():
            method = request.authentication_method
            _check_devices(node, request.devices or [])
            await accounts.modify(
                request.user, request.role, request.vservers, request.password,
                password_login=None if method is None else method == "password",
                volumes=request.volumes, devices=request.devices,
            )  # fmt: skip
            return a.Done(f"user {request.user} is changed{_end_sessions(node)}", [request.user])
        case u.UserDelete():
            await accounts.delete(request.user)
            return a.Done(f"user {request.user} is deleted{_end_sessions(node)}", [request.user])
        case u.UserShow():
            names = accounts.names()
            if request.user is not None and request.user not in names:
                return a.Failed("not-found", f"there is no user {request.user}")
            wanted = names if request.user is None else [request.user]
            return u.UserShowReply([await _status(node, name) for name in wanted])
        case u.RoleCreate():
            await accounts.create_role(request.role, request.access)
            return a.Done(f"role {request.role} is made", [request.role])
        case u.RoleDelete():
            await accounts.delete_role(request.role)
            return a.Done(f"role {request.role} is deleted", [request.role])
        case u.RoleShow():
            roles = [
                u.RoleStatus(role=name, access=access, built_in=name in SCOPES)
                for name, access in accounts.roles().items()
                if request.role is None or request.role == name
            ]
            return u.RoleShowReply(roles) if roles else a.Failed("not-found", f"there is no role {request.role}")
        case u.GeneratePassword():
            password = await accounts.generate(request.user, request.vserver)
            return u.PasswordReply(request.vserver, request.user, password)
        case _:
            assert_never(request)


async def _status(node: Node, name: str) -> u.UserStatus:
    account = node.accounts.find(name)
    assert account is not None
    row = account.row
    return u.UserStatus(
        user=name,
        role=account.role,
        vservers=list(account.vservers),
        source="configuration" if row is None else row.source,
        authentication_method="password" if row is None or row.password_login else "none",
        ndmp_password=await node.accounts.password_state(name),
        generated=row.made if row is not None and row.sealed else None,
        volumes=list(account.bounds.volumes),
        devices=list(account.bounds.devices),
    )


def _check_devices(node: Node, names: list[str]) -> None:
    """Refuse what no drive or changer is called."""
    known = [target.name for target in node.scsi_bus]
    for name in names:
        if name not in (ALL, *known):
            listed = ", ".join(known) or "none"
            raise AccountError("not-found", f"there is no drive or changer {name} (devices: {listed})")


def _end_sessions(node: Node) -> str:
    """End the sessions that a user's change bars; what to say of it."""
    ended = len(node.end_barred_sessions())
    return f", and {ended} session{'s' if ended > 1 else ''} of his ended" if ended else ""
