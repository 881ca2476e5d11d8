"""Rows of a table for the inodes of a plan, against a dictionary."""

import random
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mover.data import row_matching
from mover.data.row_matching import match_rows


def as_a_dictionary(wanted: list[int], keys: list[int]) -> list[int]:
    rows = {key: row + 1 for row, key in enumerate(keys)}
    return [rows.get(inode, 0) for inode in wanted]


def matched(wanted: list[int], keys: list[int], start: int = 0) -> list[int]:
    return list(match_rows(array("Q", wanted), array("Q", keys), start))


@given(data=st.data())
def test_any_order(data: st.DataObject) -> None:
    """What is there in pieces, in another order, with some gone and others new."""
    keys = data.draw(st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=60))
    pieces = data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
    wanted = [inode for first, end in pieces for inode in keys[first:end]]
    wanted += data.draw(st.lists(st.integers(1, 2**64 - 1), max_size=10))
    wanted = list(dict.fromkeys(wanted))
    start = data.draw(st.integers(0, len(keys)))
    assert matched(wanted, keys, start) == as_a_dictionary(wanted, keys)


@example(shuffled=0.0, gone=0.01, new=0.01)
@example(shuffled=1.0, gone=0.0, new=0.0)
@given(shuffled=st.floats(0, 1), gone=st.floats(0, 1), new=st.floats(0, 1))
def test_a_tree_that_changed(shuffled: float, gone: float, new: float) -> None:
    draw = random.Random(f"{shuffled} {gone} {new}")
    keys = draw.sample(range(1, 10**9), 3000)
    wanted = [inode for inode in keys if draw.random() >= gone]
    for place in range(len(wanted)):
        if draw.random() < shuffled:
            other = draw.randrange(len(wanted))
            wanted[place], wanted[other] = wanted[other], wanted[place]
    for place in range(len(wanted) - 1, -1, -1):
        if draw.random() < new:
            wanted.insert(place, 10**9 + place)
    assert matched(wanted, keys) == as_a_dictionary(wanted, keys)


@pytest.mark.parametrize("start", [0, 500])
def test_many_gone_and_many_new(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a window of each, and more than are looked up at once."""
    monkeypatch.setattr(row_matching, "_WINDOW", 16)
    monkeypatch.setattr(row_matching, "_LOOKED_UP", 100)
    keys = list(range(1, 3001))
    wanted = [*range(1, 500), *range(10_000, 11_000), *range(2000, 3001), *range(700, 600, -1)]
    assert matched(wanted, keys, start) == as_a_dictionary(wanted, keys)


def test_what_is_in_order_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(row_matching, "_look_up")
    keys = list(range(1, 5001))
    wanted = keys[:1000] + keys[1100:4000] + keys[4001:]
    assert matched(wanted, keys) == as_a_dictionary(wanted, keys)
