"""What all messages of the admin socket are made of: their two base classes, and the words several of them use."""

import re
from typing import Literal

from msgspec import Struct

Bottleneck = Literal["scan", "read", "ring-full", "ring-empty", "tape", "network", "file-history", "idle"]
"""What a running job waits for; "idle" = nothing runs."""


def _dashed(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class Message(Struct, frozen=True, tag=_dashed, tag_field="type", rename="kebab", forbid_unknown_fields=True):
    """Base of every message; an unknown field is an error, so that a misspelt one is not ignored."""


class Row(Struct, frozen=True, rename="kebab", kw_only=True, gc=False):
    """Base of what replies list. Fields unknown to an older client are passed over.

    Rows hold plain values and rows, never themselves: the collector of cycles need not look at thousands of them.
    """
