"""The environment of a backup: exclusion rules, levels, tokens."""

import re

import pytest

from mover.data.environment import BadVariable, Exclusion, backup_options, dump_date
from mover.data.exclusion import Tags


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
        (b"./home//x/", b"home/x", True),
        (b"x/", b"x", True),
        (b"x/", b"a/x", False),
        (b"**", b"anything", True),
        (b"a\\,*,b", b"a,c", True),
        (b"a\\,*,b", b"b", True),
        (b"a\\,*,b", b"a", False),
        (b"\xff*", b"\xffx", True),
        (b"CORE", b"core", False),
        (b" core", b"core", False),
        (b"a?c", b"abc", False),
    ],
)
def test_exclusion(value: bytes, path: bytes, expected: bool) -> None:
    assert Exclusion(value).leaves_out(path.rpartition(b"/")[2], path) is expected


def test_as_many_items_as_ontap_takes() -> None:
    assert Exclusion(b",".join(b"%d" % number for number in range(32)) + b",").leaves_out(b"31", b"31")
    with pytest.raises(BadVariable, match="EXCLUDE has 33 items, at most 32"):
        Exclusion(b",".join(b"%d" % number for number in range(33)))
    with pytest.raises(BadVariable, match="EXCLUDE_IF_PRESENT has 33 items, at most 32"):
        Tags(b",".join(b"%d" % number for number in range(33)))


@pytest.mark.parametrize("item", [b"/", b"./", b"a/..", b"../a", b"a/../b", b"a*/b", b"***"])
def test_items_that_can_name_nothing(item: bytes) -> None:
    with pytest.raises(BadVariable, match=re.escape(f"EXCLUDE item {item.decode()!r}: ")):
        Exclusion(b"fine," + item)


@pytest.mark.parametrize("item", [b"a/b", b"*.tag", b"..", b"."])
def test_tags_that_no_file_can_be(item: bytes) -> None:
    with pytest.raises(BadVariable, match="EXCLUDE_IF_PRESENT item"):
        Tags(b"fine," + item)


def test_a_comma_in_the_name_of_a_tag() -> None:
    tags = Tags(b"a\\,b")
    assert tags.found(-1, ["x", "a,b", "a"], [8, 8, 8]) == {"a,b"}
    assert tags.found(-1, ["x", "a,b", "a"], [8, 4, 8]) == set()


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
