"""How commands of operators end: exit statuses and the admin socket's codes.

Source: contract.md, Commands.
"""

from typing import Final

from mover.catalogue.entry import Entry

_EXITS: Final = {
    0: ("The command is done.", "Nothing."),
    1: (
        "The command failed; the line on standard error says at what.",
        "Do what the line says; `mover doctor` looks further.",
    ),
    2: (
        "Wrong usage, or a configuration that cannot be used.",
        "`mover COMMAND --help`; the line names key and value.",
    ),
    3: (
        "No control process was reached at the admin socket.",
        "Is the service running? --admin-socket, MOVER_ADMIN_SOCKET or the configuration name its socket, mode 0600.",
    ),
}
_CODES: Final = {
    "bad-request": ("Command and server do not understand each other.", "Use the `mover` of the server's own version."),
    "not-found": (
        "There is no session, drive, cartridge, user or the like of this name.",
        "The matching `show` command lists them.",
    ),
    "busy": ("Somebody else has it.", "`mover status` and `mover tape show` name who; wait, or end that session."),
    "refused": ("It may not be done.", "The text says why; nothing was changed."),
    "failed": ("It was tried, and failed.", "The text says at what; the server's log may say more."),
}

EXITS: Final = tuple(
    Entry(code=f"exit-{status}", kind="command", number=status, meaning=meaning, action=action, source="contract.md")
    for status, (meaning, action) in _EXITS.items()
)
ADMIN_CODES: Final = tuple(
    Entry(code=code, kind="command", meaning=meaning, action=action) for code, (meaning, action) in _CODES.items()
)
