"""One entry of the catalogue."""

from typing import Final, Literal

from msgspec import Struct

Kind = Literal["ndmp error", "halt or pause", "log line", "fault", "command"]

KINDS: Final[dict[Kind, str]] = {
    "ndmp error": "a reply of the NDMP server, to a DMA",
    "halt or pause": "why an operation, a mover or a connection stopped, told to a DMA by a post",
    "log line": "a line of the server's log, of level warning or error",
    "fault": "a kind of error in the code; its own text names the thing",
    "command": "how a command of operators ended",
}


class Entry(Struct, frozen=True, kw_only=True):
    """What one error means.

    Attributes:
        code: what `mover explain` is asked for; unique but for case.
        meaning: what has happened, in a sentence.
        action: what to do about it, in a sentence.
        number: on the wire, or the exit status; None = it has none.
        source: the document and section that it comes from; "" = of mover's own.
    """

    code: str
    kind: Kind
    meaning: str
    action: str
    number: int | None = None
    source: str = ""
