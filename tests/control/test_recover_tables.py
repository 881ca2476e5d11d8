"""The files of names that recovers leave: which one counts, what is forgotten, and that no two recovers share one."""

import os
import threading
from pathlib import Path

import msgspec
import pytest

from mover.control import recover_tables
from mover.control.environment import Environment
from mover.control.recover_tables import RecoverTables, TableFiles, keeps_names, whole_destination, writes
from mover.control.refusal import Refusal
from mover.ndmp.messages import Pval
from mover.workers.data_messages import DataFinished, Place, RecoverName, StartRecover

DEADLINE_S = 30
HERE = Place(b"/vol", b"here")
THERE = Place(b"/vol", b"there")


def finished(*, kept: bool) -> DataFinished:
    return DataFinished(1, "", 0, 0, 0, 0, 0, 0, [], table_kept=kept)


def files(directory: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in directory.iterdir()) if directory.exists() else []


def recover(tables: RecoverTables, place: Place, content: bytes, *, kept: bool = True) -> int:
    """One recover of everything that writes a table; the number of tables it got."""
    opened = tables.open(place, keep=True)
    count = len(opened.descriptors)
    os.write(opened.descriptors[0], content)
    opened.commit(finished(kept=kept))
    opened.discard(orderly=True)
    return count


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "recovered"


def test_the_new_one_counts_when_the_recover_ended_well(directory: Path) -> None:
    tables = RecoverTables(str(directory))
    assert recover(tables, HERE, b"first") == 1
    assert files(directory) == [b"first"]
    assert recover(tables, HERE, b"broken", kept=False) == 2
    assert files(directory) == [b"first"]
    assert recover(tables, HERE, b"second") == 2
    assert recover(tables, THERE, b"elsewhere") == 1
    assert files(directory) == [b"elsewhere", b"second"]
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_the_old_one_comes_with_what_it_holds(directory: Path) -> None:
    tables = RecoverTables(str(directory))
    recover(tables, HERE, b"first")
    opened = tables.open(HERE, keep=True)
    assert os.read(opened.descriptors[1], 100) == b"first"
    message = StartRecover("dump", [], [], recursive=True)
    assert opened.announce(message) == msgspec.structs.replace(message, tables=2)
    opened.discard(orderly=False)
    assert files(directory) == [b"first"]


def test_what_will_not_be_true_is_forgotten(directory: Path) -> None:
    tables = RecoverTables(str(directory))
    tables.open(HERE, keep=False).discard(orderly=True)  # nothing was known
    recover(tables, HERE, b"first")
    opened = tables.open(HERE, keep=False)
    assert opened.descriptors == []
    assert files(directory) == []
    opened.commit(finished(kept=False))
    opened.discard(orderly=True)
    assert recover(tables, HERE, b"again") == 1


def test_a_full_state_directory_forgets_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = RecoverTables(str(directory))
    recover(tables, HERE, b"first")
    real = os.open

    def full(path: str, flags: int, *more: int) -> int:
        if path.endswith(".new"):
            raise OSError(28, "No space left on device")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", full)
    opened = tables.open(HERE, keep=True)
    assert opened.descriptors == []
    assert files(directory) == []
    opened.discard(orderly=True)


def test_what_cannot_be_forgotten_stops_the_recover(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = RecoverTables(str(directory))
    recover(tables, HERE, b"first")

    def fails(path: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fails)
        with pytest.raises(Refusal, match="cannot be forgotten: Input/output error"):
            tables.open(HERE, keep=False)
    tables.open(HERE, keep=False).discard(orderly=True)  # and nothing is held


def test_two_at_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_tables, "WAIT_S", 0.01)
    tables = RecoverTables(str(directory))
    first = tables.open(HERE, keep=True)
    tables.open(THERE, keep=True).discard(orderly=True)
    with pytest.raises(Refusal, match="another recover of everything"):
        tables.open(HERE, keep=True)
    with pytest.raises(Refusal, match="another recover of everything"):
        tables.open(HERE, keep=False)
    monkeypatch.setattr(recover_tables, "WAIT_S", DEADLINE_S)
    opened: list[TableFiles] = []
    waiting = threading.Thread(target=lambda: opened.append(tables.open(HERE, keep=True)), daemon=True)
    waiting.start()
    first.discard(orderly=False)
    waiting.join(DEADLINE_S)
    assert len(opened) == 1
    opened[0].discard(orderly=True)


def test_the_oldest_are_forgotten(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_tables, "TABLES_MAX", 3)
    tables = RecoverTables(str(directory))
    for number in range(5):
        recover(tables, Place(b"/vol", b"%d" % number), b"%d" % number)
        for path in directory.iterdir():  # a clock as fine as the test
            when = int(path.read_bytes())
            os.utime(path, ns=(when, when))
    assert files(directory) == [b"2", b"3", b"4"]


def test_what_a_crash_has_left_goes(directory: Path) -> None:
    tables = RecoverTables(str(directory))
    recover(tables, HERE, b"first")
    (path,) = directory.iterdir()
    (directory / "0123.names.new").write_bytes(b"left")
    under_way = tables.open(THERE, keep=True)
    os.write(under_way.descriptors[0], b"under way")
    recover(tables, HERE, b"second")
    assert files(directory) == [b"second", b"under way"]
    under_way.discard(orderly=False)
    assert [each.name for each in directory.iterdir()] == [path.name]


def named(*originals: bytes) -> list[RecoverName]:
    return [RecoverName(original, HERE, original, 0, 0) for original in originals]


def environment(**values: str) -> Environment:
    return Environment([Pval(name.encode(), value.encode()) for name, value in values.items()], 4)


@pytest.mark.parametrize(
    ("env", "keeps"),
    [
        ({}, True),
        ({"EXTRACT": "n"}, True),
        ({"EXTRACT": "FALSE"}, True),
        ({"EXTRACT": "y"}, False),
        ({"EXTRACT": "E"}, False),
        ({"OVERWRITE": "n"}, False),
        ({"RECURSIVE": "n"}, False),
    ],
)
def test_what_begins_or_goes_on_with_a_chain(env: dict[str, str], keeps: bool) -> None:
    assert keeps_names(environment(**env), named(b"")) is keeps


def test_names_and_a_whole_dump() -> None:
    assert whole_destination(named(b"")) == HERE
    assert whole_destination(named(b"a")) is None
    assert whole_destination(named(b"", b"a")) is None
    with pytest.raises(Refusal, match="EXTRACT=n recovers the whole dump"):
        keeps_names(environment(EXTRACT="n"), named(b"a"))
    assert keeps_names(environment(EXTRACT="y"), named(b"a")) is False
    assert writes(environment())
    assert not writes(environment(LIST="y"))
    assert not writes(environment(NOWRITE="t"))
