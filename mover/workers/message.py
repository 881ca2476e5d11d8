"""What every worker message is."""

from msgspec import Struct


class Message(Struct, frozen=True, tag=True):
    """Base of every worker message; the tag is the class name."""
