"""The options of a node and of its vservers at the admin socket."""

from typing import Literal

from mover.admin.base import Message, Row


class OptionsShow(Message, frozen=True):
    """The options of a vserver, of the node for ""; None = of the node and of every vserver.

    Reply: OptionsReply; Failed for no such vserver.
    """

    vserver: str | None = ""


class OptionsModify(Message, frozen=True):
    """Change options of a vserver, of the node for "", and set others back to what the configuration says.

    They count for connections made from then on. Reply: Done with the options, or Failed, and then nothing has changed.
    """

    vserver: str = ""
    changes: dict[str, str] = {}
    reset: list[str] = []


class OptionStatus(Row, frozen=True, kw_only=True):
    """One option: its value as `mover modify` takes it, and where it comes from. vserver "" = the node."""

    vserver: str = ""
    option: str
    value: str
    origin: Literal["default", "config", "modified"]


class OptionsReply(Message, frozen=True):
    """Options, those of the node first."""

    options: list[OptionStatus]


Request = OptionsShow | OptionsModify
