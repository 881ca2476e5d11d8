"""What a backup could not read: noted in the stream, told apart from a loss by a recover, and no matter to restore."""

import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest

from mover.data import left_out
from mover.data.dump_format import NO_INODE, RECORD_BYTES, DumpLabel, RecordType, pack_header
from mover.data.left_out import LeftOut
from tests.data.backup_runner import backup_here, request
from tests.data.dump_reader import parse
from tests.data.dump_writer import DumpWriter
from tests.data.recover_runner import Outcome, name, recover_here
from tests.support import peers

ERROR, WARNING = 2, 3
NOT_IN_BACKUP = "was not in the backup: it could not be read then"


def lines(outcome: Outcome, log_type: int) -> list[str]:
    return [text.decode() for kind, text in outcome.lines if kind == log_type]


def unreadable(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """Files whose names begin so cannot be opened."""
    open_file = os.open

    def refusing(path: object, *arguments: int, **keywords: int) -> int:
        if os.fsencode(path).startswith(prefix.encode()):  # type: ignore[arg-type]  # every caller's is a path
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_file(path, *arguments, **keywords)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(os, "open", refusing)


def back_up(tree: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The stream of a tree without the files whose names begin with bad-."""
    with monkeypatch.context() as patched:
        unreadable(patched, "bad-")
        return backup_here(request(tree)).stream


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    for path in ("bad-first", "good", "below/bad-second", "below/other"):
        (tree / path).write_text(path)
    os.link(tree / "bad-first", tree / "below" / "bad-link")
    return tree


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    return target


def test_recovering_everything_warns_and_succeeds(tree: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = back_up(tree, monkeypatch)
    dump = parse(stream)
    assert dump.left_out == sorted({dump.tree()[b"bad-first"], dump.tree()[b"below/bad-second"]})
    outcome = recover_here(stream, [name(target), name(target, b"below", below=b"again")])
    assert outcome.status == {b"": 0, b"below": 0}
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    assert lines(outcome, ERROR) == []
    left = ["bad-first", "below/bad-link", "below/bad-second", "again/bad-link", "again/bad-second"]
    assert sorted(lines(outcome, WARNING)) == sorted(f"{target}/{path}: {NOT_IN_BACKUP}" for path in left)
    assert outcome.finished.text.endswith(", 0 errors, 5 objects not in the backup")
    assert (target / "good").read_text() == "good"


def test_a_request_for_just_that_file_fails(tree: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name(target, b"bad-first", below=b"bad-first"), name(target, b"good", below=b"good")]
    outcome = recover_here(back_up(tree, monkeypatch), names)
    assert outcome.status == {b"bad-first": 2, b"good": 0}
    assert lines(outcome, ERROR) == [f"{target}/bad-first: {NOT_IN_BACKUP}"]
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 1)


def test_what_is_lost_from_the_stream_stays_an_error(tree: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = back_up(tree, monkeypatch)
    dump = parse(stream)
    lost = dump.objects[dump.tree()[b"good"]].offset
    damaged = stream[:lost] + b"\xff" * RECORD_BYTES + stream[lost + RECORD_BYTES :]
    outcome = recover_here(damaged, [name(target)])
    assert outcome.status == {b"": 5}
    assert f"{target}/good: named in the dump but not in it" in lines(outcome, ERROR)
    assert len(lines(outcome, WARNING)) == 3


@pytest.mark.parametrize("count", [123, 124, 125, 1300])
def test_any_number_is_noted(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(count):
        (tmp_path / "tree" / f"bad-{number}").touch()
    stream = back_up(tmp_path / "tree", monkeypatch)
    assert parse(stream).left_out == list(range(3, 3 + count))
    outcome = recover_here(stream, [name(target)])
    assert outcome.status == {b"": 0}
    assert outcome.finished.text.endswith(f", {count} objects not in the backup")


@pytest.mark.parametrize(("lost", "status"), [([], 0), (["good"], 5)])
def test_those_beyond_the_note_are_known_by_their_number(
    tree: Path, target: Path, monkeypatch: pytest.MonkeyPatch, lost: list[str], status: int
) -> None:
    monkeypatch.setattr(left_out, "NAMED_MAX", 1)
    stream = back_up(tree, monkeypatch)
    dump = parse(stream)
    assert dump.left_out == [dump.tree()[b"bad-first"]]
    for path in lost:
        at = dump.objects[dump.tree()[path.encode()]].offset
        stream = stream[:at] + b"\xff" * RECORD_BYTES + stream[at + RECORD_BYTES :]
    outcome = recover_here(stream, [name(target)])
    assert outcome.status == {b"": status}
    # Two inodes with three names, or the one that is noted with two: the other may be the one that was lost.
    assert len(lines(outcome, WARNING)) == (2 if lost else 3)


def end(note: bytes) -> bytes:
    return pack_header(DumpLabel(1_700_000_000), RecordType.END, 0, inode=NO_INODE, addr=note)


@pytest.mark.parametrize(
    ("notes", "warnings"),
    [
        ([struct.pack("<8sII", b"moverlo1", 1, 0) + struct.pack("<I", 3)], 1),
        ([struct.pack("<8sII", b"moverlo2", 1, 0) + struct.pack("<I", 3)], 0),
        ([struct.pack("<8sII", b"moverlo1", 1, 1) + struct.pack("<I", 3)], 0),
        ([struct.pack("<8sII", b"moverlo1", 0, 0) + struct.pack("<I", 3)], 0),
        # More is promised than comes, or it is another dump's: what came counts.
        ([struct.pack("<8sII", b"moverlo1", 2**32 - 1, 0) + struct.pack("<124I", *range(3, 127))], 1),
        ([struct.pack("<8sII", b"moverlo1", 200, 0) + struct.pack("<124I", *range(4, 128)),
          struct.pack("<8sII", b"moverlo1", 999, 124) + struct.pack("<I", 3)], 0),
        ([struct.pack("<8sII", b"moverlo1", 200, 0) + struct.pack("<124I", *range(4, 128)), b""], 0),
        ([struct.pack("<8sII", b"moverlo1", 125, 0) + struct.pack("<124I", *range(4, 128)),
          struct.pack("<8sII", b"moverlo1", 125, 124) + struct.pack("<I", 3)], 1),
    ],
)  # fmt: skip
def test_a_note_is_believed_as_far_as_it_is_one(target: Path, notes: list[bytes], warnings: int) -> None:
    writer = DumpWriter().begin(range(2, 4)).directory(2, [(3, b"file")])
    for note in notes:
        writer.stream += end(note)
    outcome = recover_here(bytes(writer.stream), [name(target)])
    told = [line for line in lines(outcome, WARNING) if "owner left out" not in line]  # the stream's owner is root
    assert len(told) == warnings
    assert outcome.status == {b"": 0 if warnings else 5}


def test_without_anything_left_out_an_end_is_as_other_programs_write_it(tree: Path) -> None:
    assert LeftOut().notes() == [b""]
    stream = backup_here(request(tree)).stream
    assert parse(stream).left_out == []
    assert stream[-RECORD_BYTES:][160:676] == bytes(516)


def restore(stream: bytes, option: str, tree: Path, place: Path) -> tuple[int, bytes, bytes]:
    """Exit status and output of restore in a directory of its own; -C compares with the tree."""
    place.mkdir()
    temporary = place.with_name(f"{place.name}-temporary")
    temporary.mkdir()
    command = [str(peers.require("restore")), option, "-f", "-", "-T", str(temporary)]
    command += ["-D", str(tree)] if option == "-C" else []
    done = subprocess.run(command, input=stream, cwd=place, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.peer("restore")
@pytest.mark.parametrize("count", [1, 1300])
@pytest.mark.parametrize("option", ["-t", "-x", "-r", "-C"])
def test_restore_sees_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, count: int) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good").write_text("good")
    for number in range(count):
        (tree / f"bad-{number}").touch()
    stream = back_up(tree, monkeypatch)
    plain = stream[: stream.index(b"moverlo1") - 164] + 10 * end(b"")
    noted_place, plain_place = tmp_path / "noted", tmp_path / "plain"
    found = restore(stream, option, tree, noted_place)
    assert found == restore(plain, option, tree, plain_place)
    assert found[2].count(b"not found on tape") == (0 if option == "-t" else count)  # what it says of every such file
    if option in {"-x", "-r"}:
        assert found[0] == 0
        assert (noted_place / "good").read_text() == "good"
