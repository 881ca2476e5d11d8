"""The label that mover's own DMA writes into tape file 0 of a cartridge.

One record of 512 bytes in ASCII, which `head -c 512` shows, and behind it a filemark:

    mover label 1
    name=VTL00001
    id=0f0e0d0c0b0a09080706050403020100
    written=1700000000
    check=1a2b3c4d

Each line ends with a newline, the rest of the record is zeros. `name` is what people call the cartridge, its barcode
as a rule; `id` is drawn anew whenever the cartridge is labelled, so that what a catalogue knows of the earlier label is
not taken for what is on it now; `written` is in seconds since 1970; `check` is the CRC-32 of all bytes before its line.
"""

import re
import zlib
from typing import Final

import msgspec

LABEL_BYTES: Final = 512
MAGIC: Final = b"mover label 1\n"
NAME_MAX: Final = 64
_NAME: Final = re.compile(r"[!-~]{1,64}")
_LABEL: Final = re.compile(
    rb"(mover label 1\nname=([!-~]{1,64})\nid=([0-9a-f]{32})\nwritten=([0-9]{1,12})\n)check=([0-9a-f]{8})\n\0*"
)


class LabelError(ValueError):
    """A name that no label can carry, or a record that is a broken label; the text says which."""


class Label(msgspec.Struct, frozen=True):
    """A label.

    Attributes:
        name: of the cartridge.
        id: of this labelling, 32 hexadecimal digits.
        written: seconds since 1970.
    """

    name: str
    id: str
    written: int


def check_name(name: str) -> str:
    """The name, if a label can carry it.

    Raises:
        LabelError: it is empty, longer than 64 characters, or not of printable ASCII without blanks.
    """
    if not _NAME.fullmatch(name):
        raise LabelError(f"{name!r}: a cartridge's name has 1 to {NAME_MAX} printable ASCII characters, none a blank")
    return name


def encode_label(label: Label) -> bytes:
    """The record. Raises LabelError for a name that does not fit."""
    text = MAGIC + f"name={check_name(label.name)}\nid={label.id}\nwritten={label.written}\n".encode("ascii")
    return (text + b"check=%08x\n" % zlib.crc32(text)).ljust(LABEL_BYTES, b"\0")


def decode_label(record: bytes) -> Label | None:
    """The label in a record; None where the record is anything else.

    Raises:
        LabelError: it begins as a label of ours and is none.
    """
    if not record.startswith(MAGIC):
        return None
    found = _LABEL.fullmatch(record)
    if found is None or len(record) != LABEL_BYTES:
        raise LabelError("a label of mover that is broken, or of a later format")
    text, name, number, written, check = found.groups()
    if zlib.crc32(text) != int(check, 16):
        raise LabelError("a label of mover whose checksum is wrong")
    return Label(name.decode("ascii"), number.decode("ascii"), int(written))
