"""The list of dump dates as a file: read whole, replaced whole, with a digest in front."""

import hashlib
import os
from typing import Final

import msgspec.msgpack
from msgspec import Struct

from mover.control.durable import sync_directory

INDEX: Final = "index"
BYTES_MAX: Final = 32 << 20  # 1024 records with the longest paths are half of it
_MAGIC: Final = b"moverdx1"
_DIGEST_BYTES: Final = 32


class IndexDamaged(Exception):  # noqa: N818 - what is found
    """The file is no list of dump dates; the text says what is wrong with it."""


class Tree(Struct, frozen=True):
    """What backups of one sequence have in common: the backup type, the volume's directory, the path below it.

    Attributes:
        name: of a backup of several subtrees (DMP_NAME); b"" = of everything.
    """

    butype: str
    volume: bytes
    path: bytes
    name: bytes = b""

    @property
    def filesystem(self) -> bytes:
        """The directory that is backed up."""
        return b"/".join([self.volume, self.path]) if self.path else self.volume


class Record(Struct, frozen=True):
    """One backup that others can be based on.

    Attributes:
        level: what the DMA asked for, or what its token says.
        dumped_level: 0 where the backup turned out full; else the same.
        date: in seconds.
        by_token: it is a base for its own DUMP_DATE, else for higher levels.
        table: name of the file with its table of inodes.
        table_bytes: length of that.
        provisional: the DMA has not ended the backup by its STOP yet, so nothing may be based on it; one that a start
            of the server finds is dropped.
        boot: of a backup whose cartridge was here and has not been flushed since: names the run of the host whose
            memory holds the rest of it, without which it is not on the tape; "" = flushed, or elsewhere.
    """

    tree: Tree
    level: int
    dumped_level: int
    date: int
    by_token: bool
    table: str
    table_bytes: int
    provisional: bool = False
    boot: str = ""

    @property
    def dump_date(self) -> int:
        """The token (backup-env.md 2.3)."""
        return self.dumped_level << 32 | self.date & 0xFFFF_FFFF


_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def pack_records(records: list[Record]) -> bytes:
    """The list as bytes that :func:`parse_records` takes."""
    body = msgspec.msgpack.encode(records)
    return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def parse_records(data: bytes) -> list[Record]:
    """The list again.

    Raises:
        IndexDamaged: it is none, or not the same.
    """
    magic, digest, body = data[:8], data[8 : 8 + _DIGEST_BYTES], data[8 + _DIGEST_BYTES :]
    if magic != _MAGIC:
        raise IndexDamaged("it is no list of dump dates, or of another version of mover")
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise IndexDamaged("its checksum is wrong")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise IndexDamaged(f"it does not fit: {error}") from error


def read_index(directory: str) -> list[Record]:
    """The records, the oldest first; none where there is no file yet.

    Raises:
        IndexDamaged: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        with open(os.path.join(directory, INDEX), "rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    if len(data) > BYTES_MAX:
        raise IndexDamaged(f"it is longer than {BYTES_MAX} bytes")
    return parse_records(data)


def write_index(directory: str, records: list[Record]) -> None:
    """Replace the file; on return the new one is on disk. Raises OSError: the old one is still there."""
    path = os.path.join(directory, INDEX)
    new = path + ".new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(pack_records(records))
        file.flush()
        os.fsync(fd)
    os.rename(new, path)
    sync_directory(directory)
