"""Filters of protocol logs."""

import pytest

from mover.config.debug_filter import INTERFACES, interfaces, parse_debug_filter
from mover.ndmp.dialogue import ALL_INTERFACES


def test_the_interfaces_are_those_of_the_log() -> None:
    assert set(INTERFACES) == ALL_INTERFACES


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", set(INTERFACES)),
        ("normal", set(INTERFACES) - {"fh", "log"}),
        ("data", {"data"}),
        ("data+mover+notify", {"data", "mover", "notify"}),
        ("all-fh", set(INTERFACES) - {"fh"}),
        ("none+tape", {"tape"}),
        ("normal+log-config", set(INTERFACES) - {"fh", "config"}),
    ],
)
def test_a_filter(text: str, chosen: set[str]) -> None:
    assert interfaces(text) == chosen
    assert parse_debug_filter(text) == text


@pytest.mark.parametrize("text", ["", "none", "ALL", "all,fh", "+data", "data+", "data-data", "verbose", "all--fh", 3])
def test_what_is_no_filter(text: object) -> None:
    with pytest.raises(ValueError, match="words joined by"):
        parse_debug_filter(text)
