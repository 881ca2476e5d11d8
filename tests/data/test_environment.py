"""The environment of a backup: exclusion rules, levels, tokens."""

import pytest

from mover.data.environment import BadVariable, Exclusion, backup_options, dump_date


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        (b"", b"a", False),
        (b"core", b"x/core", True),
        (b"core", b"x/core2", False),
        (b"core", b"core/x", False),
        (b"*.o", b"src/a.o", True),
        (b"*.o", b"src/a.oo", False),
        (b"tmp*", b"tmp1", True),
        (b"tmp*", b"atmp1", False),
        (b"*cache*", b"x/.cache2", True),
        (b"*", b"anything", True),
        (b"one,two", b"two", True),
        (b"one\\,two", b"one,two", True),
        (b"one\\,two", b"one", False),
        (b",,a,", b"a", True),
        (b"/home/x", b"home/x", True),
        (b"home/x", b"home/x", True),
        (b"home/x", b"other/home/x", False),
        (b"home/x", b"home/x/y", False),
        (b"home/*", b"home/x", True),
        (b"*/x", b"a/b/x", True),
        (b"a.b", b"aXb", False),
    ],
)
def test_exclusion(value: bytes, path: bytes, expected: bool) -> None:
    assert Exclusion(value).leaves_out(path.rpartition(b"/")[2], path) is expected


def test_a_star_inside_an_item_is_refused() -> None:
    with pytest.raises(BadVariable, match="a\\*b"):
        Exclusion(b"fine,a*b")


@pytest.mark.parametrize(("text", "level"), [(b"0", 0), (b"31", 31), (None, 0)])
def test_levels(text: bytes | None, level: int) -> None:
    assert backup_options([(b"LEVEL", text)] if text is not None else []).level == level


@pytest.mark.parametrize("text", [b"32", b"-1", b"", b"x", b"1.5", b"\xff"])
def test_levels_that_are_none(text: bytes) -> None:
    with pytest.raises(BadVariable, match="LEVEL"):
        backup_options([(b"LEVEL", text)])


def test_the_last_of_a_repeated_variable_counts_and_unknown_ones_are_let_be() -> None:
    options = backup_options([(b"LEVEL", b"x"), (b"WHATEVER", b"\xff"), (b"LEVEL", b"2"), (b"HIST", b"y")])
    assert options.level == 2


@pytest.mark.parametrize(("text", "base"), [(None, None), (b"-1", None), (b"0", 0), (b"4294967297", 2**32 + 1)])
def test_base_dates(text: bytes | None, base: int | None) -> None:
    assert backup_options([(b"BASE_DATE", text)] if text is not None else []).base_date == base


def test_a_token_has_the_level_in_its_upper_half() -> None:
    assert dump_date(2, 7) == b"8589934599"
