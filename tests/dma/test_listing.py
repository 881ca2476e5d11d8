"""Which paths a pattern of `mover list` stands for."""

import pytest

from mover.dma.listing import matcher

PATHS = [b"/", b"/a", b"/a/b", b"/ab", b"/a\\b", b"/a\\b/c", b"/a[1]", b"/\xff"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        (None, PATHS),
        ("", PATHS),
        ("/", PATHS),
        ("a", [b"/a", b"/a/b"]),
        ("/a/", [b"/a", b"/a/b"]),
        ("a\\b", [b"/a\\b", b"/a\\b/c"]),  # a name may have a backslash, which quotes nothing
        ("a\\*", [b"/a\\b", b"/a\\b/c"]),
        ("a?", [b"/ab"]),
        ("a[[]1]", [b"/a[1]"]),
        ("\udcff", [b"/\xff"]),
    ],
)
def test_a_path_with_all_below_it_or_a_pattern_over_whole_paths(pattern: str | None, meant: list[bytes]) -> None:
    assert list(filter(matcher(pattern), PATHS)) == meant
