"""Tells by the first bytes of a record what it begins: a stream, or the label or header of a backup program.

What is looked at comes from strangers: nothing is followed beyond the bytes that are there, and every text is cut and
made printable.
"""

import re
from typing import Final, Literal

import msgspec

from mover.media.label import MAGIC, LabelError, decode_label

Kind = Literal["dump", "tar", "label", "header", "blocks", "unknown"]
"""A stream of dump or of tar; a label that names a cartridge; a header, behind which the tape file goes on with a
stream; a stream in another program's blocks; anything else."""

HEAD_BYTES: Final = 32768
"""So much of a record is enough."""
TEXT_MAX: Final = 256
_DUMP_MAGIC: Final = 60012  # at offset 24 of every header, in the writer's byte order
_TAR_MAGIC_AT: Final = 257
_NDMJOB: Final = re.compile(rb"##ndmjob -([mV]) ?([^\n\0]*)")
_AMANDA: Final = b"AMANDA: "
_NETBACKUP: Final = b"ThIs Is A BP tApE hEaDer"
_ANSI: Final = frozenset({b"VOL1", b"HDR1", b"HDR2", b"EOF1", b"EOF2", b"EOV1", b"EOV2"})
# A block of Bacula and of Bareos: checksum, length, number, id. Source: Bacula developer's guide, "Overall Format".
_BACULA_IDS: Final = frozenset({b"BB01", b"BB02"})
_BACULA_HEADER: Final = {b"BB01": 16, b"BB02": 24}
_BACULA_RECORD: Final = {b"BB01": 20, b"BB02": 12}
_BACULA_VOLUME_LABELS: Final = frozenset({0xFFFF_FFFF, 0xFFFF_FFFE})  # PRE_LABEL, VOL_LABEL


class Identified(msgspec.Struct, frozen=True):
    """What a record begins.

    Attributes:
        kind: see Kind.
        writer: the program whose mark it is: mover, ndmjob, amanda, bacula, netbackup, ltfs, ansi, ibm; "" = not
            known.
        text: name of the cartridge, or what the header says of the stream behind it; "" without.
    """

    kind: Kind
    writer: str = ""
    text: str = ""


def identify(head: bytes) -> Identified:
    """What the record with these first bytes begins; ``head`` has at most HEAD_BYTES of it, or the whole record."""
    for look in (_streams, _own, _ndmjob, _amanda, _bacula, _ansi):
        found = look(head)
        if found is not None:
            return found
    return Identified("unknown")


def _printable(raw: bytes) -> str:
    text = raw[:TEXT_MAX].decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else " " for each in text).strip()


def _streams(head: bytes) -> Identified | None:
    if _DUMP_MAGIC in {int.from_bytes(head[24:28], "little"), int.from_bytes(head[24:28], "big")}:
        return Identified("dump")
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return Identified("tar")
    return None


def _own(head: bytes) -> Identified | None:
    if not head.startswith(MAGIC):
        return None
    try:
        label = decode_label(head)
    except LabelError as error:
        return Identified("label", "mover", f"({error})")
    assert label is not None, "it begins as one"
    return Identified("label", "mover", label.name)


def _ndmjob(head: bytes) -> Identified | None:
    found = _NDMJOB.match(head[:TEXT_MAX])
    return Identified("label", "ndmjob", _printable(found[2])) if found else None


def _amanda(head: bytes) -> Identified | None:
    """A tape label, or the header of a dump, whose stream follows in the same tape file.

    Source: Amanda's tape format, "AMANDA: TAPESTART DATE <date> TAPE <label>", "AMANDA: FILE <date> <host> <disk>
    lev <level> comp <suffix or N> program <path>" and "SPLIT_FILE ... part <n>/<of>"; headers are 32 KiB.
    """
    if not head.startswith(_AMANDA):
        return None
    line = head[len(_AMANDA) : len(_AMANDA) + TEXT_MAX].split(b"\n")[0].split(b"\0")[0]
    word, _, rest = line.partition(b" ")
    if word == b"TAPESTART":
        return Identified("label", "amanda", _printable(rest.rpartition(b" TAPE ")[2]))
    if word in {b"FILE", b"SPLIT_FILE", b"CONT_FILE"}:
        return Identified("header", "amanda", _printable(line))
    return Identified("label", "amanda", _printable(line))


def _bacula(head: bytes) -> Identified | None:
    """A block of Bacula or Bareos; of one with a volume label, the volume's name.

    Of a label the version of the format, two dates and two times stand between its Id and the name. Source: Bacula
    developer's guide, "Volume Label Format".
    """
    block = head[12:16]
    if block not in _BACULA_IDS or not 24 <= int.from_bytes(head[4:8], "big") <= 1 << 24:
        return None
    at = _BACULA_HEADER[block]
    index = int.from_bytes(head[at + (8 if block == b"BB01" else 0) :][:4], "big")
    if index not in _BACULA_VOLUME_LABELS:
        return Identified("blocks", "bacula")
    data = head[at + _BACULA_RECORD[block] :]
    marked, _, rest = data[:4096].partition(b"\0")
    if not marked.startswith((b"Bacula ", b"Bareos ")):
        return Identified("blocks", "bacula")
    return Identified("label", "bacula", _printable(rest[36:].split(b"\0")[0]))


def _ansi(head: bytes) -> Identified | None:
    """ANSI X3.27 labels of 80 characters, in ASCII or, of IBM's, in EBCDIC; and what uses their first one."""
    name, writer = head[:4], "ansi"
    line = head[:80]
    if name not in _ANSI:
        line = line.decode("cp037").encode("ascii", "replace")
        if line[:4] not in _ANSI:
            return None
        name, writer = line[:4], "ibm"
    if name != b"VOL1":
        return Identified("label", writer, _printable(name + b" " + line[4:21]))
    if _NETBACKUP in head[:1024]:
        writer = "netbackup"
    elif line[24:28] == b"LTFS":
        writer = "ltfs"
    return Identified("label", writer, _printable(line[4:10].replace(b"\0", b" ")))
