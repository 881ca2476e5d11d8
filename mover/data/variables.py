"""Single variables of an environment: numbers, flags, and what is refused. Source: backup-env.md section 1."""

from collections.abc import Mapping


class BadVariable(ValueError):  # noqa: N818 - names what is wrong, as the reply does
    """A known variable with a value that cannot be meant: the START is refused."""


def number(name: bytes, text: bytes, least: int, most: int) -> int:
    """A whole number.

    Raises:
        BadVariable: it is none, or out of range.
    """
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadVariable(f"{name.decode()} is {text!r}, it must be a number from {least} to {most}")
    return value


def flag(values: Mapping[bytes, bytes], name: bytes, *, default: bool) -> bool:
    """A boolean by its first letter: y, t are true, n, f are false, everything else is the default."""
    first = values.get(name, b"")[:1].lower()
    if first in {b"y", b"t"}:
        return True
    return default if first not in {b"n", b"f"} else False
