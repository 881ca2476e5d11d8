"""Further names of inodes, against a dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from mover.data.dump_format import FIRST_INUMBER
from mover.data.links import Links


@given(found=st.dictionaries(st.integers(FIRST_INUMBER + 1, 500), st.integers(FIRST_INUMBER, 500), max_size=40))
def test_as_a_dictionary(found: dict[int, int]) -> None:
    pairs = {other: first for other, first in found.items() if first < other}
    links = Links()
    for other, first in pairs.items():
        links.add(other, first)
    assert dict(links.items()) == pairs
    assert list(links) == sorted(pairs)
    assert len(links) == len(pairs)
    assert bool(links) == bool(pairs)
    for key in range(FIRST_INUMBER, 510):
        assert links.first(key) == pairs.get(key, key)
        assert (key in links) == (key in pairs)
        assert links.is_first(key) == (key in pairs.values() and key not in pairs)
