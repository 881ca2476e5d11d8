"""Dump dates as one file, for another node with the same volumes: the list, the tables, and a digest behind all.

| bytes | what |
| ---: | --- |
| 8 | ``_MAGIC`` |
| 8 | length of the list, little endian |
| | the list (mover/control/dump_index.py) |
| | the tables in the order of the list, each as long as its record says |
| 32 | BLAKE2b of everything before |
"""

import hashlib
import os
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import BinaryIO, Final

from msgspec.structs import replace

from mover.control.dump_dates import RECORDS_MAX, SUFFIX, DumpDates
from mover.control.dump_index import BYTES_MAX, IndexDamaged, Record, Tree, pack_records, parse_records
from mover.control.durable import sync_directory
from mover.control.environment import LEVEL_MAX

_MAGIC: Final = b"moverde1"
_LENGTH_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_CHUNK: Final = 1 << 20
_DATE_END: Final = 1 << 40


class TransferError(Exception):
    """The file cannot be made or is none of ours; one line."""


def export_dates(dates: DumpDates, path: str) -> list[Record]:
    """Write all dates with their tables into a new file; returns them. Blocks.

    Raises:
        TransferError: it cannot be done, and no file is left.
    """
    try:
        with ExitStack() as stack:
            with dates.lock:
                records = [replace(each, boot="") for each in dates.records() if not each.provisional]
                tables = [_open_table(dates, each, stack) for each in records]
            records = [
                replace(record, table_bytes=os.fstat(table.fileno()).st_size if table is not None else 0)
                for record, table in zip(records, tables, strict=True)
            ]
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb") as file:
                try:
                    _write(file, records, tables)
                except OSError:
                    os.unlink(path)
                    raise
    except OSError as error:
        raise TransferError(f"{error.filename or path}: {error.strerror}") from error
    return records


def _open_table(dates: DumpDates, record: Record, stack: ExitStack) -> BinaryIO | None:
    """None: it is lost, and the next backup from it will be a full one there as it would be here."""
    try:
        return stack.enter_context(open(os.path.join(dates.directory, record.table), "rb"))
    except FileNotFoundError:
        return None


def _write(file: BinaryIO, records: list[Record], tables: list[BinaryIO | None]) -> None:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def put(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    body = pack_records(records)
    put(_MAGIC + len(body).to_bytes(_LENGTH_BYTES, "little") + body)
    for record, table in zip(records, tables, strict=True):
        if table is not None:
            _copy(table, record.table_bytes, put)
    file.write(digest.digest())
    file.flush()
    os.fsync(file.fileno())


def _copy(source: BinaryIO, length: int, put: Callable[[bytes], object]) -> None:
    while length:
        data = source.read(min(length, _CHUNK))
        if not data:
            raise OSError(0, "a table ends before its length")
        put(data)
        length -= len(data)


def import_dates(dates: DumpDates, path: str) -> tuple[list[Record], list[Tree]]:
    """Take over the dates of another node; returns them, and the trees that are left as they are. Blocks.

    A tree's dates take the place of those that are here, unless the latest here is later.

    Raises:
        TransferError: the file is damaged or cannot be read, and nothing has changed.
    """
    try:
        with open(path, "rb") as file:
            records = _verified(file)
            with dates.lock:
                here = dates.records()
                kept = {
                    tree for tree in {each.tree for each in records} if _latest(here, tree) > _latest(records, tree)
                }
                dates.make_directory()
                taken = _take_tables(dates, file, records, kept)
                replaced = {each.tree for each in taken}
                try:
                    dates.replace([each for each in here if each.tree not in replaced] + taken)
                finally:
                    dates.remove_unlisted()
    except (OSError, IndexDamaged) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise TransferError(f"{path}: {text}") from error
    return taken, sorted(kept, key=lambda tree: tree.filesystem)


def _latest(records: list[Record], tree: Tree) -> int:
    return max((each.date for each in records if each.tree == tree), default=-1)


def _verified(file: BinaryIO) -> list[Record]:
    """The list of a file that is whole; it stands behind the list then."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(len(_MAGIC) + _LENGTH_BYTES)
    length = int.from_bytes(head[len(_MAGIC) :], "little")
    if head[: len(_MAGIC)] != _MAGIC:
        raise IndexDamaged("it holds no dump dates, or is of another version of mover")
    if length > min(BYTES_MAX, size):
        raise IndexDamaged("it is cut off, or its list is too long")
    records = parse_records(file.read(length))
    start = file.tell()
    if len(records) > RECORDS_MAX or not all(map(_is_possible, records)):
        raise IndexDamaged("its list holds what cannot be")
    if size != start + sum(each.table_bytes for each in records) + _DIGEST_BYTES:
        raise IndexDamaged("it is not as long as its list says")
    file.seek(0)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    _copy(file, size - _DIGEST_BYTES, digest.update)
    if file.read(_DIGEST_BYTES) != digest.digest():
        raise IndexDamaged("its checksum is wrong")
    file.seek(start)
    return records


def _is_possible(record: Record) -> bool:
    return (
        0 <= record.dumped_level <= record.level <= LEVEL_MAX
        and 0 <= record.date < _DATE_END
        and record.table_bytes >= 0
    )


def _take_tables(dates: DumpDates, file: BinaryIO, records: list[Record], left: set[Tree]) -> list[Record]:
    """Copy the tables under names of our own; what is not listed in the end is removed by the caller."""
    taken = []
    for record in records:
        if record.tree in left:
            file.seek(record.table_bytes, os.SEEK_CUR)
            continue
        name = uuid.uuid4().hex + SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(os.path.join(dates.directory, name), flags, 0o600), "wb") as table:
            _copy(file, record.table_bytes, table.write)
            table.flush()
            os.fsync(table.fileno())
        taken.append(replace(record, table=name, provisional=False, boot=""))
    sync_directory(dates.directory)
    return taken
