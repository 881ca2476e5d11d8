"""The options that operators see and change while the server runs, by the names that ONTAP gives them.

The node and each vserver have them; a value is that of `mover modify`, else that of the configuration file, else the
default. They are written into a configuration, so that whatever reads one need not know where a value comes from.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args  # Any: each option has values of its own type

from msgspec.structs import replace

from mover.config import values
from mover.config.debug_filter import parse_debug_filter
from mover.config.model import Config, LifRole

Origin = Literal["default", "config", "modified"]
Changes = Mapping[tuple[str, str], str]
"""(vserver, option) -> value as an operator writes it."""


EXTENSIONS: Final[Mapping[int, str]] = {each: f"is-extension-0x{each:04x}-enabled" for each in (0x2051, 0x2052, 0x7FF0)}
"""Class -> the option that switches it, for `mover extensions` and not for `mover modify`."""


class Option(NamedTuple):
    """One option.

    Attributes:
        node: table and key of the node's; None = the node has none.
        vserver: key in ``[[vserver]]``.
        parse: what an operator writes -> the value, or ValueError, whose text completes "expected ...".
        show: back.
        meaning: a line for people.
    """

    name: str
    node: tuple[str, str] | None
    vserver: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    meaning: str


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("true or false")
    return text == "true"


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(f"a number from {low} to {high}")
        return int(text)

    return parse


def _words(*known: str, least: int = 1) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        found = [word.strip() for word in text.split(",")] if text.strip() not in {"", "-"} else []
        if len(found) < least or len(set(found)) < len(found) or not set(found) <= set(known):
            raise ValueError(f"names out of {', '.join(known)}, with commas between them")
        return found

    return parse


def _word(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return parse


def _parse_window(text: str) -> int:
    return values.parse_window(int(text) if text.isascii() and text.isdigit() else text)


def _show_boolean(value: bool) -> str:
    return "true" if value else "false"


def _show_words(value: list[str]) -> str:
    return ",".join(value) or "-"


def _show_ports(value: values.PortRange) -> str:
    return "all" if value.first == 0 else f"{value.first}-{value.last}"


def _show_window(value: int) -> str:
    return str(value) if value else "auto"


def _alike(name: str, parse: Callable[[str], Any], show: Callable[[Any], str], meaning: str) -> Option:
    """An option whose keys in ``[node]`` and ``[[vserver]]`` have its name, with underscores."""
    key = name.replace("-", "_")
    return Option(name, ("node", key), key, parse, show, meaning)


_ROWS: Final = (
    _alike("enable", _boolean, _show_boolean, "connections are taken; `mover on` and `mover off` set it"),
    Option(
        "disallowed-protocols", None, "disallowed_protocols", _words("ndmp", least=0), _show_words,
        "with ndmp in it the vserver's LIFs take no connection",
    ),
    _alike(
        "authtype", _words("challenge", "plaintext", "plaintext_sso", "none"), _show_words,
        "login methods, best first",
    ),
    Option(
        "sessions", ("limits", "sessions"), "sessions", _number(1, 100_000), str,
        "NDMP connections at once; the node's bounds those of all",
    ),
    _alike("maxversion", _number(1, 4), str, "highest NDMP version that is offered"),
    Option(
        "data-port-range", ("data_connections", "port_range"), "data_port_range",
        values.parse_port_range, _show_ports, "where data connections are waited for",
    ),
    _alike(
        "preferred-interface-role", _words(*get_args(LifRole)), _show_words,
        "data connections are waited for at LIFs of these roles, best first",
    ),
    _alike(
        "abort-on-disk-error", _boolean, _show_boolean,
        "an error of the disk ends a job, which else goes on without the object",
    ),
    _alike(
        "ignore-ctime-enabled", _boolean, _show_boolean,
        "a backup above level 0 leaves out what has a new time of change and nothing else; IGNORE_CTIME goes before it",
    ),
    _alike(
        "offset-map-enable", _boolean, _show_boolean,
        "direct access finds what a directory holds; else a recover with one reads the stream from its beginning",
    ),
    _alike(
        "dump-detailed-stats", _boolean, _show_boolean,
        "the backup log has the summary of each job: entries, sizes, causes of errors, and what took the time",
    ),
    _alike("tcpnodelay", _boolean, _show_boolean, "control connections send at once (TCP_NODELAY)"),
    _alike(
        "tcpwinsize", _parse_window, _show_window,
        "send and receive buffer of data connections in bytes; auto = the kernel suits them to the network",
    ),
    _alike(
        "is-secure-control-connection-enabled", _boolean, _show_boolean, "the LIFs have secure ports (TLS)",
    ),
    _alike(
        "data-connection-encryption", _word("off", "allowed", "required"), str,
        "TCP data connections between two movers: never encrypted, where the DMA passes keys on, or not made without",
    ),
    _alike("backup-log-enable", _boolean, _show_boolean, "jobs are written to the backup log"),
    _alike("debug-enable", _boolean, _show_boolean, "a protocol log of every connection from its first byte"),
    _alike("debug-filter", parse_debug_filter, str, "what protocol logs take in"),
    *(_alike(name, _boolean, _show_boolean, "the extension is offered") for name in EXTENSIONS.values()),
)  # fmt: skip
OPTIONS: Final[Mapping[str, Option]] = {option.name: option for option in _ROWS}
NOT_APPLICABLE: Final[Mapping[str, str]] = {
    "dump-logical-find": "there are no qtrees to find: FILESYSTEM names any directory",
    "fh-dir-retry-interval": "file history waits until the DMA has room for it; nothing is tried again",
    "fh-node-retry-interval": "file history waits until the DMA has room for it; nothing is tried again",
    "per-qtree-exclude-enable": "there are no qtrees: EXCLUDE of a backup names what is left out",
    "restore-vm-cache-size": "a recover has no cache of inodes that could be made larger or smaller",
}
"""ONTAP's options that mean nothing here, with the reason; to change one is refused with it."""


def read(config: Config, option: Option, vserver: str) -> Any:
    """The value of an option of a vserver, of the node for "". Raises KeyError: there is none such."""
    if not vserver:
        if option.node is None:
            raise KeyError(option.name)
        table, key = option.node
        return getattr(getattr(config, table), key)
    value = getattr(config.service(vserver), option.vserver)
    return read(config, option, "") if value is None else value


def is_given(config: Config, option: Option, vserver: str) -> bool:
    """Whether the configuration file has a value for it."""
    if not vserver:
        return option.node is not None and ".".join(option.node) in config.given
    index = [each.name for each in config.vserver].index(vserver)
    return f"vserver[{index}].{option.vserver}" in config.given


def with_changes(config: Config, changes: Changes) -> Config:
    """A configuration with what operators have changed. Those of vservers that are not in it stay out.

    Raises:
        ValueError: one is none that this version takes; the text names it.
    """
    for (vserver, name), text in changes.items():
        if vserver and vserver not in {each.name for each in config.vserver}:
            continue
        config = _replaced(config, vserver, name, parse_change(vserver, name, text))
    return config


def parse_change(vserver: str, name: str, text: str) -> Any:
    """The value of an option as an operator writes it; raises ValueError, whose text says what is wrong."""
    if name in NOT_APPLICABLE:
        raise ValueError(f"{name} is not applicable: {NOT_APPLICABLE[name]}")
    option = OPTIONS.get(name)
    if option is None or (not vserver and option.node is None):
        raise ValueError(f"there is no option {name} of {f'vserver {vserver}' if vserver else 'the node'}")
    try:
        return option.parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: expected {error}, got {text[:100]!r}") from None


def _replaced(config: Config, vserver: str, name: str, value: Any) -> Config:
    option = OPTIONS[name]
    if vserver:
        changed = [
            replace(each, **{option.vserver: value}) if each.name == vserver else each for each in config.vserver
        ]
        return replace(config, vserver=changed)
    assert option.node is not None
    table, key = option.node
    return replace(config, **{table: replace(getattr(config, table), **{key: value})})
