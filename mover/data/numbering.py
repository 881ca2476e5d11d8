"""An incremental backup's choice: which number each inode had in the base, and what is to be backed up again.

An inode keeps its number as long as it is there; what the base does not know gets a new one and is taken whatever its
time of change says, because a directory that was moved in from elsewhere brings contents with old times. A number that
has become free is not given again before the next full backup. Source: dump.md sections 5 and 10.
"""

import hashlib
import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from mover.data.dump_format import DT_DIRECTORY, FIRST_INUMBER
from mover.data.inode_table import NUMBER_SHIFT, STALE, TYPE_MASK, Block, InodeTable
from mover.data.plan import Plan, Selection, identity
from mover.data.row_matching import match_rows

NUMBERS_HIGH: Final = 1 << 31
"""A dump has room for 2^32 numbers; a base that has given so many leaves enough for what a plan can hold."""
_NO_DIRECTORY: Final = bytes(kind != DT_DIRECTORY for kind in range(256))
_SLICE: Final = 1 << 16  # entries at a time: bounds the lists between two arrays


def select(plan: Plan, base: InodeTable, *, moved: bool = False) -> None:
    """Number the entries of a plan that was scanned for changes, and choose what is backed up.

    Args:
        moved: whether what lies in a directory that the base does not know has changed in any case.

    Raises:
        TableError: the table was cut off since it was opened.
    """
    kinds = bytes(plan.types.joined)
    numbers = _known_numbers(plan, base, kinds)
    changed, links = plan.changed, plan.links
    if moved:
        _take_contents(plan, numbers, kinds)
    next_number = base.next_number
    for place in range(len(numbers)):
        if numbers[place]:
            continue
        first = links.first(place + FIRST_INUMBER)
        if first != place + FIRST_INUMBER:
            numbers[place] = numbers[first - FIRST_INUMBER]
            continue
        numbers[place] = next_number
        next_number += 1
        changed[place] = kinds[place] != DT_DIRECTORY
    _join_links(plan)
    for ordinal in range(1, len(plan)):
        key = plan.inumbers[ordinal]
        if numbers[key - FIRST_INUMBER] >= base.next_number or key in plan.unsound:
            plan.directory_changed[ordinal] = 1
        plan.inumbers[ordinal] = numbers[key - FIRST_INUMBER]
    plan.unsound = {numbers[key - FIRST_INUMBER] if key >= FIRST_INUMBER else key for key in plan.unsound}
    hidden = _keep_closed(plan, base)
    directories = _on_the_way(plan)
    other_names = sum(changed[other - FIRST_INUMBER] for other in links)
    plan.next_inumber = next_number
    plan.selection = Selection(
        numbers, directories, changed, directories.count(1) + changed.count(1) - other_names, hidden
    )


def _take_contents(plan: Plan, numbers: "array[int]", kinds: bytes) -> None:
    """All that is in directories without a number, but for the directories, which have none either or were there."""
    for ordinal in range(1, len(plan)):
        if not numbers[plan.inumbers[ordinal] - FIRST_INUMBER]:
            start = plan.firsts[ordinal] - FIRST_INUMBER
            end = start + plan.types.length(ordinal)
            plan.changed[start:end] = kinds[start:end].translate(_NO_DIRECTORY)


def _join_links(plan: Plan) -> None:
    """What changed by one of its names has changed."""
    changed = plan.changed
    for other, first in plan.links.items():
        changed[first - FIRST_INUMBER] |= changed[other - FIRST_INUMBER]
    for other, first in plan.links.items():
        changed[other - FIRST_INUMBER] = changed[first - FIRST_INUMBER]


def _keep_closed(plan: Plan, base: InodeTable) -> "array[int]":
    """Leave out the directories that could not be opened and were in the base: they stay what they were there.

    Taken as they look, they would be empty, and a recover of the chain would remove all that the base had in them.

    Returns:
        the numbers of the base, if there is such a directory: which ones are below it is not known.
    """
    known = [ordinal for ordinal in plan.closed if plan.inumbers[ordinal] < base.next_number]
    for ordinal in known:
        plan.directory_changed[ordinal] = 0
    if not known:
        return array("I")
    blocks = itertools.chain(base.rows(), base.odd_rows())
    return array("I", (code >> NUMBER_SHIFT for _, codes in blocks for code in codes))


def _on_the_way(plan: Plan) -> bytearray:
    """For each directory, 1 = it changed or leads to what did; the root always is."""
    found = bytearray(plan.directory_changed)
    found[0] = 1
    for ordinal in range(len(plan) - 1, 0, -1):
        start = plan.firsts[ordinal] - FIRST_INUMBER
        if found[ordinal] or plan.changed.find(1, start, start + plan.types.length(ordinal)) >= 0:
            found[ordinal] = found[plan.parents[ordinal]] = 1
    return found


def _known_numbers(plan: Plan, base: InodeTable, kinds: bytes) -> "array[int]":
    """The number of each entry in the base, 0 = it was not there; what is stale there counts as changed."""
    numbers = array("I", bytes(4 * len(plan.inodes)))
    keys, codes = _whole(base.rows())
    _find_others(plan, numbers, kinds, keys, codes)
    _find_directories(plan, numbers, keys, codes, odd=0)
    del keys, codes
    _find_directories(plan, numbers, *_whole(base.odd_rows()), odd=1)
    if plan.ambiguous:
        for place, inode in enumerate(plan.inodes):
            if inode in plan.ambiguous:
                numbers[place] = 0
    if base.stale:
        _take_stale_again(plan, base, numbers)
    return numbers


def _whole(blocks: Iterator[Block]) -> Block:
    keys, codes = array("Q"), array("Q")
    for more_keys, more_codes in blocks:
        keys += more_keys
        codes += more_codes
    return keys, codes


def _find_others(plan: Plan, numbers: "array[int]", kinds: bytes, keys: "array[int]", codes: "array[int]") -> None:
    """Look up everything that is no directory; other names get the number of the first one later."""
    is_wanted = bytearray(map(bool, plan.inodes))
    for other in plan.links:
        is_wanted[other - FIRST_INUMBER] = 0
    found = match_rows(array("Q", itertools.compress(plan.inodes, is_wanted)), keys)
    for place, row in zip(itertools.compress(range(len(kinds)), is_wanted), found, strict=True):
        if row and (code := codes[row - 1]) & TYPE_MASK == kinds[place]:
            numbers[place] = code >> NUMBER_SHIFT


def _find_directories(plan: Plan, numbers: "array[int]", keys: "array[int]", codes: "array[int]", *, odd: int) -> None:
    ambiguous = plan.ambiguous
    ordinals = array("I")
    for ordinal in range(1, len(plan)):
        if plan.odd[ordinal] == odd and not (ambiguous and identity(plan, ordinal) in ambiguous):
            ordinals.append(ordinal)
    wanted = array("Q", map(plan.directory_inodes.__getitem__, ordinals))
    # They are the last rows of their table; were they not, it would only take longer.
    start = bisect_left(range(len(codes)), True, key=lambda row: codes[row] & TYPE_MASK == DT_DIRECTORY)
    for ordinal, row in zip(ordinals, match_rows(wanted, keys, start), strict=True):
        if row and (code := codes[row - 1]) & TYPE_MASK == DT_DIRECTORY:
            numbers[plan.inumbers[ordinal] - FIRST_INUMBER] = code >> NUMBER_SHIFT


def _take_stale_again(plan: Plan, base: InodeTable, numbers: "array[int]") -> None:
    stale = {
        code >> NUMBER_SHIFT
        for blocks in (base.rows(), base.odd_rows())
        for _, codes in blocks
        for code in codes
        if code & STALE
    }
    for place, number in enumerate(numbers):
        if number in stale and plan.inodes[place]:
            plan.changed[place] = 1
    for ordinal in range(1, len(plan)):
        if numbers[plan.inumbers[ordinal] - FIRST_INUMBER] in stale:
            plan.directory_changed[ordinal] = 1


def key_by_path(plan: Plan) -> None:
    """Let a directory be known again by its inode and its path together, for a stream that names objects by path.

    One that was moved is a new one then, and so is each below it. To be called behind the scan, also where the table of
    this backup is all that comes of it.
    """
    paths = [b""] * len(plan)
    for ordinal in range(1, len(plan)):
        above = paths[plan.parents[ordinal]]
        paths[ordinal] = path = hashlib.blake2b(above + plan.names[ordinal], digest_size=16).digest()
        inode = plan.directory_inodes[ordinal]
        if not inode or identity(plan, ordinal) in plan.ambiguous:
            plan.directory_inodes[ordinal] = 0
            continue
        digest = hashlib.blake2b(path + inode.to_bytes(8, "big"), digest_size=8).digest()
        # With the highest bit it is no inode number of anything else.
        plan.directory_inodes[ordinal] = int.from_bytes(digest, "big") | 1 << 63


# --- the table of this backup


def rows(plan: Plan) -> Iterator[Block]:
    """What this backup's table says of everything that is known again by its inode number alone."""
    kinds = plan.types.joined
    unsound, links, ambiguous = plan.unsound, plan.links, plan.ambiguous
    for start in range(0, len(plan.inodes), _SLICE):
        inodes = plan.inodes[start : start + _SLICE]
        if plan.selection is not None:
            numbers: Sequence[int] = plan.selection.numbers[start : start + _SLICE]
        else:
            numbers = range(FIRST_INUMBER + start, FIRST_INUMBER + start + len(inodes))
        if links or ambiguous:  # one row an inode; without a number it is left out
            keys = range(FIRST_INUMBER + start, FIRST_INUMBER + start + len(inodes))
            named = zip(keys, inodes, numbers, strict=True)
            numbers = [0 if key in links or inode in ambiguous else number for key, inode, number in named]
        codes = [
            number << NUMBER_SHIFT | kind if number and inode else 0
            for inode, number, kind in zip(inodes, numbers, kinds[start : start + _SLICE], strict=True)
        ]
        if unsound:
            codes = [code | STALE if code >> NUMBER_SHIFT in unsound else code for code in codes]
        yield array("Q", itertools.compress(inodes, codes)), array("Q", filter(None, codes))
    yield _directory_rows(plan, odd=0)


def odd_rows(plan: Plan) -> Iterator[Block]:
    """The directories that are known again by their parent's listing."""
    yield _directory_rows(plan, odd=1)


def _directory_rows(plan: Plan, *, odd: int) -> Block:
    keys, codes = array("Q"), array("Q")
    for ordinal in range(1, len(plan)):
        inode, number = plan.directory_inodes[ordinal], plan.inumbers[ordinal]
        if plan.odd[ordinal] == odd and inode and identity(plan, ordinal) not in plan.ambiguous:
            keys.append(inode)
            codes.append(number << NUMBER_SHIFT | (STALE if number in plan.unsound else 0) | DT_DIRECTORY)
    return keys, codes
