"""GNU.dumpdir: what was in a directory when it was backed up, as tar streams tell it; and a mark that it came whole.

Entries are a letter and a name, each closed by a NUL, and a further NUL closes them all:

    Y, N, D   in this stream, not in it, a directory (in it or not)
    R, T      a directory has moved from the first path to the second, from the stream's root on; empty = the spare one
    X         a spare name for what follows: moves in a circle take one

Extended headers have no checksum, and a name that was damaged would have another one removed. So a stream of ours holds
one of path and listing, as a comment, which other readers step over. Source: GNU tar manual, "Dumpdir".
"""

from typing import Final, NamedTuple
from zlib import crc32

from mover.data.beneath import components, is_plain_name
from mover.data.tar_format import EXTENDED_BYTES_MAX, FormatError

LISTING_BYTES_MAX: Final = EXTENDED_BYTES_MAX
_NAMED: Final = frozenset(b"YND")
_MARK: Final = b"GNU.dumpdir "


class Move(NamedTuple):
    """A directory that has moved: components from the stream's root; none = the spare place."""

    source: list[bytes]
    target: list[bytes]


class Listing(NamedTuple):
    """What a directory held.

    Attributes:
        names: name -> its letter: Y, N or D.
        moves: in their order.
    """

    names: dict[bytes, int]
    moves: list[Move]


def listing_mark(path: bytes, value: bytes) -> bytes:
    """The text of the comment that belongs to a directory's listing.

    Args:
        path: as it stands in the stream.
    """
    return _MARK + b"%08x" % crc32(value, crc32(path))


def parse_listing(value: bytes) -> Listing:
    """A listing.

    Raises:
        FormatError: it is none, or not whole: nothing can be concluded from it.
    """
    if not value.endswith(b"\0") or (len(value) > 1 and not value.endswith(b"\0\0")):
        raise FormatError("a list of contents that does not end")
    names: dict[bytes, int] = {}
    moves: list[Move] = []
    source: list[bytes] | None = None
    for entry in value[:-1].split(b"\0")[:-1]:
        code, text = entry[0] if entry else 0, entry[1:]
        if code in _NAMED:
            if not is_plain_name(text):
                raise FormatError(f"a list of contents with the name {text[:60]!r}")
            names[text] = code
        elif code == ord("R") and source is None:
            source = _path(text)
        elif code == ord("T") and source is not None:
            moves.append(Move(source, _path(text)))
            source = None
        elif code != ord("X"):
            raise FormatError(f"a list of contents with the entry {entry[:60]!r}")
    if source is not None:
        raise FormatError("a list of contents with a move to nowhere")
    return Listing(names, moves)


def _path(text: bytes) -> list[bytes]:
    try:
        parts = components(text)
    except ValueError as error:
        raise FormatError(f"a list of contents with a move of what cannot be: {error}") from error
    if text and not parts:
        raise FormatError("a list of contents with a move of the root")
    return parts
