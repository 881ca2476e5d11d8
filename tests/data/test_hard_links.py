"""Hard links of a tree, whatever parts its inodes are examined in."""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from mover.data import hard_links
from mover.data.backup_report import BackupReport
from mover.data.dump_format import FIRST_INUMBER
from mover.data.exclusion import Exclusion
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.data.scan import Scanner
from mover.workers.channel import Channel

FILES = 200


class Ended(Exception):  # noqa: N818 - what happens
    """The ring is closed."""


def scan(place: Path, check: Callable[[int], None] = lambda _: None) -> Plan:
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    report = BackupReport(cast("Channel", None), b"/", memoryview(bytearray(64)))  # nothing is said
    scanner = Scanner(root, exclusion=Exclusion(b""), report=report, attributes=lambda *_: [], check=check)
    try:
        return scanner.run()
    finally:
        scanner.open_directories.close()
        os.close(root)


def names_by_inode(plan: Plan) -> set[frozenset[bytes]]:
    """Paths of what is no directory, those of one inode together."""
    found: dict[int, set[bytes]] = {}
    for ordinal in range(len(plan)):
        for place, name in enumerate(plan.entry_names(ordinal)):
            key = plan.firsts[ordinal] + place
            if plan.inodes[key - FIRST_INUMBER]:
                found.setdefault(plan.links.first(key), set()).add(plan.path(ordinal, name))
    return set(map(frozenset, found.values()))


@pytest.fixture
def linked(tmp_path: Path) -> set[frozenset[bytes]]:
    """Every third file has another name beside it, every fifth two more in another directory."""
    wanted = set()
    for number in range(FILES):
        names = [f"d{number % 7}/file-{number}"]
        names += [f"{names[0]}-too"] if number % 3 == 0 else []
        names += [f"d{number % 4}/below/{number}.{more}" for more in range(2)] if number % 5 == 0 else []
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == names[0]:
                path.touch()
            else:
                os.link(tmp_path / names[0], path)
        wanted.add(frozenset(map(os.fsencode, names)))
    return wanted


@pytest.mark.parametrize("part", [1 << 17, 1000, 50, 1])
def test_all_names_of_an_inode(
    tmp_path: Path, linked: set[frozenset[bytes]], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_links, "_PART", part)
    monkeypatch.setattr(hard_links, "_SLICE", 64)
    plan = scan(tmp_path)
    assert names_by_inode(plan) == linked
    assert not plan.ambiguous


def test_a_name_that_goes_is_no_link(
    tmp_path: Path, linked: set[frozenset[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays an entry of its own, and nobody takes its inode for known."""
    gone = b"d3/file-3-too"
    twice = hard_links._twice

    def remove(members: "array[int]") -> set[int]:
        (tmp_path / os.fsdecode(gone)).unlink(missing_ok=True)
        return twice(members)

    monkeypatch.setattr(hard_links, "_twice", remove)
    inode = (tmp_path / "d3/file-3").stat().st_ino
    plan = scan(tmp_path)
    pair = frozenset({b"d3/file-3", gone})
    assert pair in linked
    assert names_by_inode(plan) == linked - {pair} | {frozenset({name}) for name in pair}
    assert plan.ambiguous == {inode}


def test_it_can_be_ended_between_parts(tmp_path: Path, linked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise Ended

    plan = scan(tmp_path)
    monkeypatch.setattr(hard_links, "_PART", 50)
    with pytest.raises(Ended):
        hard_links.find_links(plan, cast("OpenDirectories", None), end)
