"""What two runs of one dialogue may differ in: the rules by which a replay compares.

A path names a field of a message as the protocol log writes it, `[]` standing for any element. Headers are never
compared (sequence numbers, times), nor is the order in which a server mixes posts among its replies.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final  # Any: JSON values

import msgspec

Flat = list[tuple[str, Any]]


class Rule(msgspec.Struct, frozen=True):
    """Fields that must differ, or may."""

    messages: str  # a regular expression over names of messages
    path: str  # a regular expression over paths
    why: str


RULES: Final = (
    Rule("CONFIG_GET_AUTH_ATTR", r"server_attr\.challenge", "a new challenge for each login"),
    Rule("CONFIG_GET_HOST_INFO", "hostname|hostid|os_vers", "the server's host"),
    Rule("CONFIG_GET_FS_INFO", r"fs_info\[\]\.(total|used|avail)_(size|inodes)", "file systems fill"),
    Rule(".*_(LISTEN|GET_STATE)", r"data_connection_addr\.endpoints\[\]\..*", "ports and addresses"),
    Rule("NOTIFY_CONNECT.*", "text_reason", "a text of the server's own"),
    Rule("LOG_.*", "message_id|associated_message_sequence", "numbers of the server's own"),
    Rule("FH_ADD_.*", r".*\.(atime|ctime)", "a backup reads files, a recover makes them"),
    Rule("TAPE_GET_STATE", "total_space|space_remain|soft_errors", "another cartridge"),
)
NUMBERED_TEXTS: Final = Rule("LOG_.*|NOTIFY_.*HALTED", "entry|text_reason", "digits in texts: rates, times, sizes")
OWN_VARIABLES: Final = Rule("DATA_GET_ENV", r"env\[\]\.value", "DUMP_DATE and MOVER_DUMP_ID name one backup")
PROGRESS: Final = Rule("(DATA|MOVER)_GET_STATE", ".*", "while a state is ACTIVE: how far a job is")

DUMP_ID: Final = b"MOVER_DUMP_ID"
"""Names the one dump that a recover takes; sent empty, because the dump on this tape is another."""
_OWN_NAMES: Final = frozenset({"DUMP_DATE", DUMP_ID.decode()})
_MACHINES: Final = frozenset({"DATA_GET_STATE", "MOVER_GET_STATE"})


def is_progress(message: str, recorded: dict[str, Any] | None) -> bool:
    """Whether a reply tells how far a job is, which no second run repeats."""
    return message in _MACHINES and recorded is not None and recorded.get("state") == "ACTIVE"


def state_of(message: str, fields: dict[str, Any] | None) -> str | None:
    """The state that a GET_STATE of DATA or MOVER tells; None for any other message."""
    state = None if message not in _MACHINES or fields is None else fields.get("state")
    return state if isinstance(state, str) else None


def elements(message: str, fields: dict[str, Any] | None) -> list[Any] | None:
    """The elements of a file history post, which a server may bundle as it likes; None for any other message."""
    if not message.startswith("FH_ADD_") or fields is None:
        return None
    return next((value for value in fields.values() if isinstance(value, list)), None)


def difference(message: str, recorded: Any, replayed: Any) -> tuple[str, Any, Any] | None:
    """The first field in which two bodies differ beyond the rules, with both values; None = alike."""
    skipped, numbered = _patterns(message)
    old, new = (
        [(path, value) for path, value in _without_own(message, _flat(fields, "")) if not skipped(_general(path))]
        for fields in (recorded, replayed)
    )
    for at in range(max(len(old), len(new))):
        path, was = old[at] if at < len(old) else (new[at][0], None)
        other, is_now = new[at] if at < len(new) else (path, None)
        if path != other:
            return path, was, None
        if was != is_now and not (numbered(path) and _without_digits(was) == _without_digits(is_now)):
            return path, was, is_now
    return None


@cache
def _patterns(message: str) -> tuple[Callable[[str], object], Callable[[str], object]]:
    """What tells the paths of a message that are not compared, and those that are without their digits."""
    paths = [rule.path for rule in RULES if re.fullmatch(rule.messages, message)]
    numbered = NUMBERED_TEXTS.path if re.fullmatch(NUMBERED_TEXTS.messages, message) else "(?!)"
    return re.compile("|".join(paths) or "(?!)").fullmatch, re.compile(numbered).fullmatch


def _without_digits(value: Any) -> Any:
    return re.sub(r"\d+", "#", value) if isinstance(value, str) else value


def _flat(value: Any, path: str) -> Flat:
    """Every leaf with its path; an empty list or object is a leaf."""
    if isinstance(value, dict) and value:
        return [leaf for name, each in value.items() for leaf in _flat(each, f"{path}.{name}" if path else name)]
    if isinstance(value, list) and value:
        return [leaf for at, each in enumerate(value) for leaf in _flat(each, f"{path}[{at}]")]
    return [(path, value)]


def _general(path: str) -> str:
    """Any element, and a field of bytes whichever form the log gives it."""
    return re.sub(r"\[\d+\]", "[]", re.sub(r"\.(hex|bytes|sha256)$", "", path))


def _without_own(message: str, flat: Flat) -> Flat:
    if re.fullmatch(OWN_VARIABLES.messages, message) is None:
        return flat
    kept: Flat = []
    for path, value in flat:
        name = kept[-1][1] if kept else None
        if path.endswith(".value") and isinstance(name, str) and name in _OWN_NAMES:
            continue
        kept.append((path, value))
    return kept
