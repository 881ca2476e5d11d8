"""The name that a backup gives its dump, and a recover that insists on it."""

import struct
from pathlib import Path

import pytest

from mover.data.dump_format import RECORD_BYTES, parse_header
from mover.data.dump_identity import DUMP_ID, new_dump_id, wrong_dump
from mover.workers.data_messages import HistoryPlan
from tests.data.backup_runner import FILESYSTEM, backup_here, request
from tests.data.dump_writer import DumpWriter, Meta
from tests.data.recover_runner import name, recover


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    return source


def the_id(env: list[tuple[bytes, bytes]]) -> bytes:
    (found,) = [value for variable, value in env if variable == DUMP_ID]
    return found


def test_every_backup_has_a_name_of_its_own_in_every_header_and_in_its_environment(source: Path) -> None:
    names = set()
    for _ in range(2):
        outcome = backup_here(request(source, env=[(DUMP_ID, b"of an older job")]))
        dump_id = the_id(outcome.finished.env)
        labels = {
            outcome.stream[at + 676 : at + 692].rstrip(b"\0")
            for at in range(0, len(outcome.stream), RECORD_BYTES)
            if struct.unpack_from("<I", outcome.stream, at + 24) == (60012,)
        }
        assert labels == {dump_id}
        assert len(dump_id) == 15
        assert dump_id.isalnum()
        names.add(dump_id)
    assert len(names) == 2


def test_the_dump_that_is_wanted_is_recovered(source: Path, tmp_path: Path) -> None:
    backup = backup_here(request(source))
    (tmp_path / "target").mkdir()
    outcome = recover(backup.stream, [name(tmp_path / "target")], env=backup.finished.env)
    assert outcome.finished.reason == 1
    assert (tmp_path / "target" / "file").read_text() == "content"


def test_another_dump_makes_nothing(source: Path, tmp_path: Path) -> None:
    backup = backup_here(request(source))
    target = tmp_path / "target"
    target.mkdir()
    wanted = new_dump_id()
    env = [(b"FILESYSTEM", b"/srv/other"), (DUMP_ID, wanted)]
    outcome = recover(backup.stream, [name(target), name(target, b"file", below=b"new/file")], env=env)
    assert list(target.iterdir()) == []
    assert outcome.finished.reason == 3
    assert outcome.status == {b"": 5, b"file": 5}
    assert outcome.lines == []  # control says it
    line = outcome.finished.text
    assert line.startswith(f"the tape file holds the dump of {FILESYSTEM.decode()} of 20")
    assert f"(id {the_id(backup.finished.env).decode()})" in line
    assert line.endswith(f"not the dump of /srv/other that is wanted (id {wanted.decode()})")


def test_the_history_of_another_dump_is_not_sent(source: Path) -> None:
    backup = backup_here(request(source))
    plan = HistoryPlan(4, "dir")
    outcome = recover(backup.stream, [], filehist=plan, env=[(DUMP_ID, new_dump_id())])
    assert (outcome.finished.reason, outcome.posts) == (3, [])
    outcome = recover(backup.stream, [], filehist=plan, env=backup.finished.env)
    assert outcome.finished.reason == 1
    assert outcome.posts


@pytest.mark.parametrize("env", [[], [(DUMP_ID, b"")], [(b"DUMP_DATE", b"17")]])
def test_without_a_name_every_dump_will_do(tmp_path: Path, env: list[tuple[bytes, bytes]]) -> None:
    writer = DumpWriter().begin(range(2, 4)).directory(2, [(3, b"file")])
    writer.content(3, Meta(0o100644), b"of another program")
    assert recover(writer.end(), [name(tmp_path)], env=env).finished.reason == 1
    assert (tmp_path / "file").read_text() == "of another program"


def test_another_program_s_dump_is_told_in_one_line() -> None:
    writer = DumpWriter().begin([2])
    first = parse_header(bytes(writer.stream[:RECORD_BYTES]))
    line = wrong_dump(first._replace(filesystem=b"/a\n\xff", label=b""), [(DUMP_ID, b"wanted")])
    assert line == (
        "the tape file holds the dump of /a \ufffd of 2023-11-14 22:13:20 UTC (id unknown),"
        " not the dump that is wanted (id wanted)"
    )
