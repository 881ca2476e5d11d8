"""Users, roles and NDMP passwords at the admin socket."""

from typing import Literal

from msgspec import field

from mover.admin.base import Message, Row

AuthenticationMethod = Literal["password", "none"]
Access = Literal["all", "readonly", "none"]


class UserCreate(Message, frozen=True):
    """Make a user; ``password`` is the login password of a local one. Reply: Done or Failed.

    Attributes:
        volumes: that he reaches: of the node by NAME, of a vserver by VSERVER/NAME; "*" = all.
        devices: drives and changers that he reaches; "*" = all.
    """

    user: str
    role: str
    source: Literal["local", "system"] = "local"
    vservers: list[str] = field(default_factory=list)
    password: str | None = None
    authentication_method: AuthenticationMethod = "password"
    volumes: list[str] = field(default_factory=lambda: ["*"])
    devices: list[str] = field(default_factory=lambda: ["*"])

    def __repr__(self) -> str:
        return f"UserCreate({self.user!r}, {self.role!r})"


class UserModify(Message, frozen=True):
    """Change a user; None = as it is. Reply: Done or Failed."""

    user: str
    role: str | None = None
    vservers: list[str] | None = None
    password: str | None = None
    authentication_method: AuthenticationMethod | None = None
    volumes: list[str] | None = None
    devices: list[str] | None = None

    def __repr__(self) -> str:
        return f"UserModify({self.user!r})"


class UserDelete(Message, frozen=True):
    """Delete a user and end his sessions. Reply: Done or Failed."""

    user: str


class UserShow(Message, frozen=True):
    """The users, or the one named. Reply: UserShowReply; Failed where there is none such."""

    user: str | None = None


class RoleCreate(Message, frozen=True):
    """Make a role with an access to the NDMP service. Reply: Done or Failed."""

    role: str
    access: Access = "all"


class RoleDelete(Message, frozen=True):
    """Delete a role that no user has. Reply: Done or Failed."""

    role: str


class RoleShow(Message, frozen=True):
    """The roles, or the one named. Reply: RoleShowReply; Failed where there is none such."""

    role: str | None = None


class GeneratePassword(Message, frozen=True):
    """Make a user's NDMP password; a vserver that is named must be one of his. Reply: PasswordReply or Failed."""

    user: str
    vserver: str = ""


class UserStatus(Row, frozen=True, kw_only=True):
    """One user.

    Attributes:
        source: whose the login password is.
        ndmp_password: configured: it stands in the configuration; stale: the login password has changed since;
            unknown: the login password cannot be asked about at the moment.
        generated: the NDMP password, in seconds since 1970; None = it was not.
        volumes, devices: that he reaches, by names; "*" = all.
    """

    user: str
    role: str
    vservers: list[str]
    source: Literal["configuration", "local", "system"]
    authentication_method: AuthenticationMethod
    ndmp_password: Literal["configured", "none", "valid", "stale", "expired", "unknown"]
    generated: int | None = None
    volumes: list[str] = field(default_factory=lambda: ["*"])
    devices: list[str] = field(default_factory=lambda: ["*"])


class RoleStatus(Row, frozen=True, kw_only=True):
    """One role; built_in: it is there without being made."""

    role: str
    access: Access
    built_in: bool


class UserShowReply(Message, frozen=True):
    """The users, those of the configuration first."""

    users: list[UserStatus]


class RoleShowReply(Message, frozen=True):
    """The roles, those first that are always there."""

    roles: list[RoleStatus]


class PasswordReply(Message, frozen=True):
    """A new NDMP password, which is not shown again."""

    vserver: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"PasswordReply({self.user!r})"


Request = UserCreate | UserModify | UserDelete | UserShow | RoleCreate | RoleDelete | RoleShow | GeneratePassword
Reply = UserShowReply | RoleShowReply | PasswordReply
