"""The environment of a START as control reads it."""

from typing import Literal

import pytest

from mover.control.environment import VARIABLES, Environment, merge, misspelt
from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import Pval


def environment(*pairs: tuple[bytes, bytes], version: int = 4) -> Environment:
    return Environment((Pval(name, value) for name, value in pairs), version)


def test_the_last_of_a_name_counts_and_all_are_kept() -> None:
    env = environment((b"EXCLUDE", b"a"), (b"X", b"1"), (b"EXCLUDE", b"b"))
    assert env.get(b"EXCLUDE") == b"b"
    assert env.get(b"exclude") is None
    assert env.pairs == [(b"EXCLUDE", b"a"), (b"X", b"1"), (b"EXCLUDE", b"b")]


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"n", None), (b"N", None), (b"", None), (b"?", None),
        (b"y", "suiting"), (b"Y", "suiting"), (b"d", "dir"), (b"f", "file"), (b"F", "file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suiting", ["dir", "file"])
def test_hist_names_the_form_of_history(value: bytes, form: str | None, suiting: Literal["dir", "file"]) -> None:
    assert environment((b"HIST", value)).history_form(suiting) == (suiting if form == "suiting" else form)


@pytest.mark.parametrize(
    ("value", "expected"), [(b"y", True), (b"TRUE", True), (b"n", False), (b"False", False), (b"?", True), (b"", True)]
)
def test_booleans_go_by_their_first_letter(value: bytes, expected: bool) -> None:
    assert environment((b"RECURSIVE", value)).flag(b"RECURSIVE", default=True) is expected


def test_filesystem_comes_before_prefix() -> None:
    assert environment((b"PREFIX", b"/p"), (b"FILESYSTEM", b"/f")).root == b"/f"
    assert environment((b"PREFIX", b"/p")).root == b"/p"
    assert environment((b"FILESYSTEM", b"")).root is None


def test_version_1_writes_some_names_in_lower_case() -> None:
    env = environment((b"filesystem", b"/f"), (b"PREFIX", b"/p"), version=1)
    assert env.root == b"/f"
    assert env.pairs == [(b"filesystem", b"/f"), (b"PREFIX", b"/p")]
    assert environment((b"filesystem", b"/f"), (b"FILESYSTEM", b"/F"), version=1).root == b"/F"
    assert environment((b"files", b"./*"), version=1).get(b"FILES") == b"./*"
    for version in (2, 3, 4):
        assert environment((b"filesystem", b"/f"), version=version).root is None


def test_the_id_of_version_1_names_the_object_when_it_is_a_path() -> None:
    assert environment((b"ID", b"/i"), version=1).root == b"/i"
    assert environment((b"ID", b"/i"), (b"PREFIX", b"/p"), version=1).root == b"/p"
    assert environment((b"ID", b"42"), version=1).root is None
    assert environment((b"ID", b"/i"), version=4).root is None


@pytest.mark.parametrize(("value", "level"), [(b"", 0), (b"0", 0), (b"9", 9), (b"31", 31)])
def test_levels(value: bytes, level: int) -> None:
    assert environment((b"LEVEL", value)).check_level() == level


@pytest.mark.parametrize("value", [b"32", b"-1", b"x", b"1x", b"\xb2", b"9" * 4000])
def test_any_other_level_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        environment((b"LEVEL", value)).check_level()
    assert caught.value.error is ErrorCode.ILLEGAL_ARGS_ERR


def test_merge_replaces_in_place_and_adds_behind() -> None:
    assert merge([(b"A", b"1"), (b"B", b"2")], [(b"C", b"3"), (b"A", b"4")]) == [
        (b"A", b"4"), (b"B", b"2"), (b"C", b"3"),
    ]  # fmt: skip


def test_merge_replaces_every_pair_of_a_name() -> None:
    """The last one counts: it must not be the old one."""
    assert merge([(b"A", b"1"), (b"A", b"2")], [(b"A", b"3")]) == [(b"A", b"3"), (b"A", b"3")]


@pytest.mark.parametrize(
    ("operation", "name", "meant"),
    [
        ("backup", b"EXLUDE", "EXCLUDE"), ("backup", b"exclude", "EXCLUDE"), ("backup", b"EXCLUDE ", "EXCLUDE"),
        ("backup", b"EXCLUDE_IFPRESENT", "EXCLUDE_IF_PRESENT"), ("backup", b"FILE_SYSTEM", "FILESYSTEM"),
        ("recover", b"OVERWRIT", "OVERWRITE"), ("recover", b"Extract", "EXTRACT"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_a_variable_is_told(
    operation: Literal["backup", "recover"], name: bytes, meant: str
) -> None:
    assert misspelt([(name, b"x"), (name, b"y")], operation) == [
        f"{name.decode()!r} is no variable of a {operation} and was not followed; is {meant} meant?"
    ]


@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_names_that_are_known_or_like_none_are_let_be(operation: Literal["backup", "recover"]) -> None:
    """A recover is given a backup's variables, and every DMA has some of its own."""
    known = [name.encode() for names in VARIABLES.values() for name in names]
    others = [
        b"TYPE", b"USER", b"OPTIONS", b"DUMP_DATE", b"filesystem", b"NDMP_UNICODE_FH", b"SMTAPE_LABEL", b"X", b"", b" ",
        b"\xff\xfe", b"EXCLUDE" * 1000,
    ]  # fmt: skip
    assert misspelt([(name, b"") for name in [*known, *others]], operation) == []
    assert misspelt([(b"EXLUDE", b"")], "recover") == []  # said at the backup


def test_of_a_giant_environment_only_the_first_names_are_looked_at() -> None:
    assert len(misspelt([(b"EXCLUDE%d" % number, b"") for number in range(50_000)], "backup")) == 32
