"""Which rows of a base's table are those of the inodes of a plan, without a dictionary of either.

Theory of operation: a file system lists a directory that did not change in the same order again, and a table has its
rows in the order of the listing. So both are walked side by side. Runs that are equal are taken as a whole; where the
two differ, each one's next inode is looked for further on in the other. What was not met that way (moved, listed in
another order, new) is looked up in the whole table afterwards, a bounded number of inodes at a time. That is exact, so
the walk may give up early: where little is in order it would cost more than it saves.
"""

import itertools
import operator
from array import array
from collections.abc import Iterator
from typing import Final

_RUN_MAX: Final = 1 << 16  # inodes compared at once
_WINDOW: Final = 1 << 12  # how far the next equal one is looked for at first; twice as far after each failure
_EFFORT: Final = 8  # inodes looked at to get into step again, for each one that there is
_LOOKED_UP: Final = 1 << 18  # inodes looked up at once: bounds the dictionary

Run = tuple[int, int, int]
"""Place in what is wanted, place among the keys, and how many are equal from there on."""


def match_rows(wanted: "array[int]", keys: "array[int]", start: int = 0) -> "array[int]":
    """For each inode that is wanted, one more than its place among the keys; 0 = it is not there.

    Args:
        wanted: of one that is in it twice one may count as not there.
        keys: no inode twice.
        start: where among the keys the order of what is wanted is likely to begin.
    """
    found = array("I", bytes(4 * len(wanted)))
    for place, key_place, length in _runs(wanted, keys, start):
        found[place : place + length] = array("I", range(key_place + 1, key_place + length + 1))
    places = itertools.compress(range(len(found)), bytes(map(operator.not_, found))) if 0 in found else iter(())
    while part := list(itertools.islice(places, _LOOKED_UP)):
        _look_up(wanted, keys, found, part)
    return found


def _look_up(wanted: "array[int]", keys: "array[int]", found: "array[int]", places: list[int]) -> None:
    place_of = {wanted[place]: place for place in places}
    for row in itertools.compress(range(len(keys)), map(place_of.__contains__, keys)):
        found[place_of[keys[row]]] = row + 1


def _runs(wanted: "array[int]", keys: "array[int]", start: int) -> Iterator[Run]:
    """Runs that are equal, found in order."""
    place, key_place, window, step = 0, start, _WINDOW, 1
    effort = _EFFORT * (len(wanted) + len(keys))
    with memoryview(wanted) as wanted_view, memoryview(keys) as keys_view:
        while place < len(wanted) and key_place < len(keys) and effort > 0:
            length = _equal(wanted_view[place:], keys_view[key_place:])
            if length:
                yield place, key_place, length
                place, key_place = place + length, key_place + length
                if length > 1:  # one alone may be chance
                    window, step = _WINDOW, 1
                continue
            further_key = _distance(keys, wanted[place], key_place, window)
            further = _distance(wanted, keys[key_place], place, further_key)
            effort -= further_key + further
            if further < further_key:
                place += further
            elif further_key < window:
                key_place += further_key
            else:
                place, key_place = place + step, key_place + step
                window, step = window * 2, step * 2


def _equal(one: memoryview, other: memoryview) -> int:
    """How many of two arrays are equal from the beginning on."""
    most, done, size = min(len(one), len(other)), 0, 1
    while done < most and size:
        end = min(done + size, most)
        if one[done:end] == other[done:end]:
            done, size = end, min(size * 2, _RUN_MAX)
        else:
            size //= 2
            most = min(most, end - 1)  # the difference is before
    return done


def _distance(values: "array[int]", value: int, start: int, window: int) -> int:
    """How far behind ``start`` a value stands; ``window`` = not nearer than that."""
    try:
        return values.index(value, start, start + window) - start
    except ValueError:
        return window
