"""The recover list: which entries a recover sends, and for which of the caller's names each stands.

For direct access a directory is replaced by all that the catalogue knows below it, with RECURSIVE=n: so a server needs
no more than the position of each object. Where that is too much, or a position is missing, a server that has told the
stream's length finds a directory's contents itself; any other gets a list without positions and reads everything.
Source: backup-env.md sections 4 and 5.
"""

import os
from itertools import islice
from typing import Final

import msgspec

from mover.dma.catalogue import Catalogue
from mover.dma.errors import JobError
from mover.dma.options import RecoverOptions
from mover.dma.results import Entry, Job
from mover.ndmp.enums import UNKNOWN_U64, FileType
from mover.ndmp.messages import RecoverName

EXPANDED_MAX: Final = 20_000
"""Entries of a list with directories replaced by their contents; the protocol's arrays end at some 65,000."""
EXPANDED_FEW: Final = 1_000
"""The same for a server that finds a directory's contents itself, which takes one entry and one LOG_FILE for all."""
STREAM_BYTES: Final = b"MOVER_STREAM_BYTES"
"""Variable of a server that jumps to the contents of directories by itself."""


class Listed(msgspec.Struct, frozen=True):
    """One entry.

    Attributes:
        request: number of the caller's name that it stands for.
        original: path from the backup root, with a leading slash.
        target: path below the destination, likewise.
    """

    request: int
    original: bytes
    target: bytes
    node: int = UNKNOWN_U64
    fh_info: int = UNKNOWN_U64


class Wanted(msgspec.Struct, frozen=True):
    """What to recover; no entries: everything.

    Attributes:
        requests: how many names the caller gave.
        expanded: directories were replaced by their contents.
    """

    requests: int
    entries: list[Listed]
    expanded: bool = False

    @property
    def direct(self) -> bool:
        """Whether the entries have positions."""
        return any(entry.fh_info != UNKNOWN_U64 for entry in self.entries)

    def owners(self, originals: set[bytes]) -> set[int]:
        """Numbers of the caller's names to which entries belong."""
        return {entry.request for entry in self.entries if entry.original in originals}


def wanted_names(options: RecoverOptions) -> Wanted:
    """The caller's names as they are.

    Raises:
        JobError: a name climbs.
    """
    names = [(name, name) for name in options.names] + options.renames
    return Wanted(len(names), [Listed(at, _rooted(name), _rooted(to)) for at, (name, to) in enumerate(names)])


def refuse_full_paths(options: RecoverOptions, catalogue: Catalogue, job: Job) -> None:
    """Tell the right name for one that begins with the path of the backup itself. Blocks.

    Raises:
        JobError: a name is not in the backup, and is one that is when taken from its root.
        CatalogueError: the catalogue cannot be read.
    """
    root = _rooted(job.filesystem).rstrip(b"/") + b"/"
    for name in [*options.names, *(name for name, _ in options.renames)]:
        path = _rooted(name)
        if (path + b"/").startswith(root) and catalogue.find(job.job, path) is None:
            below = path[len(root) :]
            if catalogue.find(job.job, below) is not None:
                raise JobError(
                    f"{name!r} is not in job {job.job}: names are paths below the root of the backup, "
                    f"{job.filesystem}: {os.fsdecode(below) or '/'!r}"
                )


def with_positions(wanted: Wanted, catalogue: Catalogue, job: int, options: RecoverOptions) -> Wanted:
    """The list for direct access; without any position where that is not possible. Blocks.

    Raises:
        CatalogueError: the catalogue cannot be read.
    """
    found = [_placed(entry, catalogue.find(job, entry.original)) for entry in wanted.entries]
    placed = [entry for entry, _ in found if entry is not None]
    if len(placed) < len(found):
        return wanted
    if not any(is_directory for _, is_directory in found) or not _recursive(options):
        return Wanted(wanted.requests, placed)
    finds_itself = bool(dict(catalogue.env(job)).get(STREAM_BYTES))
    expanded = _expand(placed, catalogue, job, EXPANDED_FEW if finds_itself else EXPANDED_MAX)
    if expanded is not None:
        return Wanted(wanted.requests, expanded, expanded=True)
    return Wanted(wanted.requests, placed) if finds_itself else wanted


def _placed(listed: Listed, entry: Entry | None) -> tuple[Listed | None, bool]:
    """The entry with its position, None without one; and whether it is a directory."""
    if entry is None or entry.node is None or entry.fh_info is None:
        return None, False
    place = Listed(listed.request, listed.original, listed.target, entry.node, entry.fh_info)
    return place, entry.ftype == FileType.DIR


def _expand(placed: list[Listed], catalogue: Catalogue, job: int, most: int) -> list[Listed] | None:
    """Every entry with all below it; None when that is more than ``most``, or something has no position."""
    expanded: list[Listed] = []
    for top in placed:
        left = most - len(expanded)
        below = list(islice(catalogue.tree(job, top.original), left + 1))
        if len(below) > left:
            return None
        stem = top.original.rstrip(b"/")
        for entry in below:
            if entry.node is None or entry.fh_info is None:
                return None
            rest = entry.path[len(stem) :]
            target = (top.target.rstrip(b"/") + rest).rstrip(b"/") or b"/"
            expanded.append(Listed(top.request, entry.path, target, entry.node, entry.fh_info))
    return expanded


def _recursive(options: RecoverOptions) -> bool:
    """RECURSIVE as the caller's own pairs have it, y unless told."""
    value = dict(options.env).get("RECURSIVE", "y")
    return value[:1].lower() not in {"n", "f"}


def recover_list(version: int, wanted: Wanted, destination: bytes) -> tuple[RecoverName, ...]:
    """The nlist in the terms of a protocol version.

    Version 4 wants the whole target in destination_path, version 3 appends original_path (or new_name) to
    destination_dir, version 2 wants the whole target in dest.
    """
    destination = destination.rstrip(b"/") or b"/"
    if not wanted.entries:
        return (RecoverName(b"", destination),)
    nlist = []
    for entry in wanted.entries:
        if version == 3:
            new_name = b"" if entry.target == entry.original else entry.target[1:]
            where, name = destination, new_name
        else:
            where, name = (destination.rstrip(b"/") + entry.target).rstrip(b"/") or b"/", b""
        nlist.append(RecoverName(entry.original, where, name, b"", entry.node, entry.fh_info))
    return tuple(nlist)


def _rooted(name: str) -> bytes:
    """A path from the backup root with one leading slash."""
    parts = [part for part in os.fsencode(name).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise JobError(f"{name!r}: a name to recover has no .. in it")
    return b"/" + b"/".join(parts)
