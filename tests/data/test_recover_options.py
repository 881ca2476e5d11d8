"""What a recover's environment asks for: OVERWRITE, LIST, NOWRITE."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.data.codes import LogType, RecoveryStatus
from mover.data.recover_options import recover_options
from mover.data.recover_plan import overlap
from mover.data.recover_report import Request
from mover.data.rights import need
from mover.workers.data_messages import Pairs, StartRecover
from tests.data.backup_runner import backup_here, request
from tests.data.dump_writer import DumpWriter, Meta, attribute_blob
from tests.data.recover_runner import Outcome, name, recover, recover_here

KEEP: Pairs = [(b"OVERWRITE", b"n")]


def dump() -> bytes:
    writer = DumpWriter().begin(range(2, 9))
    writer.directory(2, [(3, b"dir"), (4, b"file"), (5, b"link"), (6, b"one"), (6, b"two"), (8, b"new")])
    writer.directory(3, [(7, b"inner")], mode=0o711)
    writer.file(4, b"from the dump")
    writer.content(5, Meta(stat.S_IFLNK | 0o777), b"target")
    writer.content(6, Meta(stat.S_IFREG | 0o644, nlink=2), b"two names")
    writer.extension(6, Meta(stat.S_IFREG | 0o644), attribute_blob([(1, b"mark", b"x")]))
    writer.file(7, b"inner").file(8, b"new")
    return writer.end()


@pytest.mark.parametrize(
    ("env", "lists", "writes", "overwrites"),
    [
        ([], False, True, True),
        ([(b"LIST", b"y")], True, False, True),
        ([(b"LIST", b"TRUE")], True, False, True),
        ([(b"NOWRITE", b"Y")], False, False, True),
        ([(b"NOWRITE", b"Y"), (b"NOWRITE", b"N")], False, True, True),
        ([(b"OVERWRITE", b"FALSE")], False, True, False),
        ([(b"OVERWRITE", b"perhaps")], False, True, True),
    ],
)
def test_options(env: Pairs, lists: bool, writes: bool, overwrites: bool) -> None:
    options = recover_options(env)
    assert (options.lists, options.writes, options.overwrites) == (lists, writes, overwrites)


def test_what_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "dir").chmod(0o750)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").write_text("mine too")
    (tmp_path / "one").write_text("mine as well")
    before = (tmp_path / "dir").stat()
    outcome = recover_here(dump(), [name(tmp_path)], env=KEEP)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0})
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "mine too"
    assert (tmp_path / "one").read_text() == "mine as well"
    assert (tmp_path / "two").read_text() == "two names"  # its other name was free
    assert (tmp_path / "dir/inner").read_text() == "inner"
    assert (tmp_path / "dir").stat().st_mode == before.st_mode
    assert outcome.text().count(b"it exists and was kept") == 3
    assert "3 that existed kept" in outcome.finished.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "file", "link", "new", "one", "two"]


@pytest.mark.parametrize("butype", ["dump", "tar"])
@pytest.mark.parametrize("there", ["one", "two", "one two"])
def test_of_several_names_those_that_exist_are_kept_and_the_others_made(
    tmp_path: Path, butype: str, there: str
) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    tree.mkdir()
    place.mkdir()
    (tree / "one").write_text("of the backup")
    os.link(tree / "one", tree / "two")
    for existing in there.split():
        (place / existing).write_text("mine")
    outcome = recover_here(backup_here(request(tree, butype=butype)).stream, [name(place)], butype=butype, env=KEEP)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0})
    for path in place.iterdir():
        assert path.read_text() == ("mine" if path.name in there.split() else "of the backup")
    assert sorted(path.name for path in place.iterdir()) == ["one", "two"]
    assert outcome.text().count(b"it exists and was kept") == len(there.split())


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_a_name_whose_directory_cannot_be_made_costs_the_others_nothing(tmp_path: Path, butype: str) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    for directory in ("one", "two"):
        (tree / directory).mkdir(parents=True)
    (tree / "one/file").write_text("of the backup")
    os.link(tree / "one/file", tree / "two/file")
    place.mkdir()
    (place / "one").write_text("no directory")
    outcome = recover_here(backup_here(request(tree, butype=butype)).stream, [name(place)], butype=butype)
    assert outcome.finished.errors
    assert (place / "two/file").read_text() == "of the backup"


@pytest.mark.parametrize("butype", ["dump", "tar"])
@pytest.mark.parametrize("below", [b"taken", b"taken/new"])
def test_where_a_directory_cannot_be_made_one_line_tells_of_all_that_was_to_be_in_it(
    tmp_path: Path, butype: str, below: bytes
) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    (tree / "one/two/three").mkdir(parents=True)
    for directory in ("", "one", "one/two", "one/two/three"):
        for number in range(20):
            (tree / directory / str(number)).write_text("of the backup")
    place.mkdir()
    (place / "taken").write_text("no directory")
    stream = backup_here(request(tree, butype=butype)).stream
    outcome = recover_here(stream, [name(place, below=below)], butype=butype)
    (line,) = [text for kind, text in outcome.lines if kind == LogType.ERROR]
    assert line.startswith(bytes(place / os.fsdecode(below)) + b": ")
    symbol = "EEXIST" if below == b"taken" else "ENOTDIR"
    assert {cause.name: cause.count for cause in outcome.finished.causes} == {symbol: 1, "parent": 3 + 80}
    assert outcome.status == {b"": RecoveryStatus.PATH_EXISTS}


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_a_file_that_is_named_fails_with_the_directory_on_its_way(tmp_path: Path, butype: str) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    (tree / "one").mkdir(parents=True)
    for number in range(3):
        (tree / "one" / str(number)).write_text("of the backup")
    place.mkdir()
    (place / "one").write_text("no directory")
    wanted = [name(place, b"one/%d" % number, below=b"one/%d" % number) for number in range(3)]
    outcome = recover_here(backup_here(request(tree, butype=butype)).stream, wanted, butype=butype)
    assert 0 not in outcome.status.values()
    assert len(outcome.status) == 3


def test_a_name_of_the_list_that_is_kept_is_told_as_not_recovered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    wanted = [name(tmp_path, b"file", below=b"file"), name(tmp_path, b"new", below=b"new"), name(tmp_path, b"dir")]
    outcome = recover_here(dump(), wanted, env=KEEP)
    assert outcome.status == {b"file": 7, b"new": 0, b"dir": 0}
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "new").read_text() == "new"


@pytest.mark.slow
def test_kept_in_a_real_worker_with_many_files(tmp_path: Path) -> None:
    """With the second writer at work too."""
    count = 2500
    writer = DumpWriter().begin(range(2, count + 3))
    writer.directory(2, [(number, b"%d" % number) for number in range(3, count + 3)])
    for number in range(3, count + 3):
        writer.file(number, b"dump")
    for number in range(3, count + 3, 3):
        (tmp_path / f"{number}").write_text("kept")
    outcome = recover(writer.end(), [name(tmp_path)], env=KEEP)
    assert (outcome.finished.errors, outcome.status) == (0, {b"": 0})
    for number in range(3, count + 3):
        assert (tmp_path / f"{number}").read_text() == ("kept" if number % 3 == 0 else "dump")


def test_what_exists_is_replaced_whole_and_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    os.link(tmp_path / "file", tmp_path / "kept-by-its-other-name")
    recover_here(dump(), [name(tmp_path)])
    assert (tmp_path / "file").read_text() == "from the dump"
    assert (tmp_path / "kept-by-its-other-name").read_text() == "old"


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_what_exists_is_there_and_whole_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str
) -> None:
    """Looked at behind every call that could show: who reads a file meanwhile finds the old or the new one."""
    tree, place = tmp_path / "tree", tmp_path / "place"
    sizes = {"small": 700, "in several parts": 700_000, "linked": 900}
    for root, filler in ((tree, b"n"), (place, b"o")):
        root.mkdir()
        for file, size in sizes.items():
            (root / file).write_bytes(filler * size)
        os.link(root / "linked", root / "other name")
        (root / "symbolic").symlink_to(filler.decode())
    stream = backup_here(request(tree, butype=butype)).stream
    seen: dict[str, list[bytes]] = {path.name: [] for path in place.iterdir()}
    real = {
        call: getattr(os, call) for call in ("open", "write", "writev", "pwrite", "rename", "link", "unlink", "symlink")
    }

    def look() -> None:
        for file, contents in seen.items():
            path = place / file
            if path.is_symlink():
                found = os.fsencode(os.readlink(path))
            else:
                fd = real["open"](path, os.O_RDONLY)
                found = os.read(fd, 1 << 20)
                os.close(fd)
            if not contents or contents[-1] != found:
                contents.append(found)

    def watched(call: str) -> Callable[..., object]:
        def done(*given: object, **named: object) -> object:
            try:
                return real[call](*given, **named)
            finally:
                look()

        return done

    with monkeypatch.context() as patched:
        for call in real:
            patched.setattr(os, call, watched(call))
        outcome = recover_here(stream, [name(place)], butype=butype)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0})
    sizes["other name"], sizes["symbolic"] = sizes["linked"], 1
    assert seen == {file: [b"o" * size, b"n" * size] for file, size in sizes.items()}
    assert sorted(path.name for path in place.iterdir()) == sorted(seen)


@pytest.mark.parametrize("butype", ["dump", "tar"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errno.EACCES, 1), (errno.EPERM, 1), (errno.EROFS, 1), (errno.ENOENT, 3), (errno.ENOMEM, 4), (errno.EIO, 5),
        (errno.ENOSPC, 5), (errno.EDQUOT, 5), (errno.ENOTDIR, 7), (errno.ENXIO, 6),
    ],
)  # fmt: skip
def test_the_status_of_a_name_is_that_of_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str, error: int, status: int
) -> None:
    """LOG_FILE: one fate for each name of the list; a directory fails with what is in it, others do not."""
    tree = tmp_path / "tree"
    (tree / "directory").mkdir(parents=True)
    for path in ("one", "bad", "directory/bad", "directory/good"):
        (tree / path).write_bytes(b"content")
    stream = backup_here(request(tree, butype=butype)).stream
    real = os.open

    def refused(path: bytes | str, flags: int, *given: object, **named: object) -> int:
        if flags & os.O_CREAT and os.fsencode(path).endswith(b"bad"):
            raise OSError(error, os.strerror(error))
        return real(path, flags, *given, **named)  # type: ignore[arg-type]  # passed through

    wanted = [name(tmp_path, each, below=b"to/" + each) for each in (b"one", b"bad", b"directory", b"none")]
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        outcome = recover_here(stream, wanted, butype=butype)
    assert outcome.finished.reason == 1
    assert outcome.status == {b"one": 0, b"bad": status, b"directory": status, b"none": 2}
    assert (tmp_path / "to/one").read_bytes() == (tmp_path / "to/directory/good").read_bytes() == b"content"
    assert not (tmp_path / "to/bad").exists()


def listed(outcome: Outcome) -> list[str]:
    return [os.fsdecode(line) for _, line in outcome.lines if b"\t" in line]


def test_list(tmp_path: Path) -> None:
    stream = dump()
    (tmp_path / "file").write_text("mine")
    outcome = recover_here(stream, [name(tmp_path, below=b"to")], env=[(b"LIST", b"y")])
    to = tmp_path / "to"
    names = ["2\t", "3\t/dir", "7\t/dir/inner", "4\t/file", "5\t/link", "6\t/one", "6\t/two", "8\t/new"]
    assert sorted(listed(outcome)) == sorted(each.replace("\t", f"\t{to}") for each in names)
    assert outcome.status == {b"": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert outcome.finished.stream_bytes < len(stream)
    part = recover_here(stream, [name(tmp_path, b"dir/inner", below=b"x")], env=[(b"LIST", b"y")])
    assert listed(part) == [f"7\t{tmp_path}/x"]


def test_nowrite_reads_all_of_it(tmp_path: Path) -> None:
    stream = bytearray(dump())
    outcome = recover_here(bytes(stream), [name(tmp_path, below=b"to")], env=[(b"NOWRITE", b"y")])
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0})
    assert (outcome.finished.directories, outcome.finished.files) == (2, 6)
    assert list(tmp_path.iterdir()) == []
    # a lost header of a file, a cut stream, a name that is not there
    at = stream.index(b"from the dump") - 1024
    stream[at + 40] ^= 1
    outcome = recover_here(bytes(stream), [name(tmp_path, below=b"to")], env=[(b"NOWRITE", b"y")])
    assert outcome.status == {b"": 5}
    assert b"/to/file: named in the dump but not in it" in outcome.text()
    outcome = recover_here(dump()[:-4096], [name(tmp_path, below=b"to")], env=[(b"NOWRITE", b"y")])
    assert (outcome.finished.reason, outcome.status) == (4, {b"": 5})
    outcome = recover_here(dump(), [name(tmp_path, b"missing", below=b"to")], env=[(b"NOWRITE", b"y")])
    assert outcome.status == {b"missing": 2}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [b"LIST", b"NOWRITE"])
def test_what_writes_nothing_gets_no_right_to(tmp_path: Path, option: bytes) -> None:
    message = StartRecover(butype="dump", names=[name(tmp_path)], env=[(option, b"y")], recursive=True)
    assert need(message).trees == ()
    assert need(message).capabilities == 0
    outcome = recover(dump(), [name(tmp_path, below=b"to")], env=[(option, b"y")])
    assert (outcome.finished.reason, outcome.status) == (1, {b"": 0})


@pytest.mark.parametrize("asked", [[b"one"], [b"two"], [b"two", b"one"]])
def test_a_hard_link_is_complete_whichever_name_is_asked_for(tmp_path: Path, asked: list[bytes]) -> None:
    outcome = recover_here(dump(), [name(tmp_path, each, below=b"to/" + each) for each in asked])
    assert outcome.status == dict.fromkeys(asked, 0)
    found = list((tmp_path / "to").iterdir())
    assert sorted(os.fsencode(path.name) for path in found) == sorted(asked)
    assert {path.read_text() for path in found} == {"two names"}
    assert {path.stat().st_nlink for path in found} == {len(asked)}


def test_several_names_in_one_pass(tmp_path: Path) -> None:
    """A file and the directory that it is in, one of them under another name, and one that is not there."""
    wanted = [
        name(tmp_path, b"dir", below=b"here/renamed"),
        name(tmp_path, b"dir/inner", below=b"there/inner"),
        name(tmp_path, b"dir/none", below=b"none"),
        name(tmp_path, b"new", below=b"deep/er/new"),
    ]
    outcome = recover_here(dump(), wanted)
    assert outcome.status == {b"dir": 0, b"dir/inner": 0, b"dir/none": 2, b"new": 0}
    assert (tmp_path / "here/renamed/inner").read_text() == (tmp_path / "there/inner").read_text() == "inner"
    assert (tmp_path / "deep/er/new").read_text() == "new"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_a_name_that_one_of_two_places_cannot_take_costs_that_place_no_other(tmp_path: Path, butype: str) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/one").write_text("content")
    os.link(tree / "dir/one", tree / "dir/two")
    first, second = os.listdir(tree / "dir")
    (place / "b" / first).mkdir(parents=True)  # in its way
    wanted = [name(place, b"dir", below=below) for below in (b"a", b"b")]
    outcome = recover_here(backup_here(request(tree, butype=butype)).stream, wanted, butype=butype)
    assert outcome.finished.errors == 1
    assert (place / "a" / first).samefile(place / "a" / second)
    assert [(place / each).read_text() for each in (f"a/{first}", f"b/{second}")] == ["content"] * 2


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([(b"", b"t")], False),
        ([(b"a", b"t"), (b"a", b"t")], False),
        ([(b"a", b"t"), (b"b", b"t")], True),
        ([(b"a", b"t/a"), (b"b", b"t/b")], False),
        ([(b"", b"t"), (b"a/b", b"t/a/b")], False),
        ([(b"a/b", b"t/a/b"), (b"", b"t")], False),
        ([(b"", b"t"), (b"b", b"t/a")], True),
        ([(b"b", b"t/a/c"), (b"", b"t")], True),
        ([(b"", b"t"), (b"a", b"t/a"), (b"x", b"t/a/c")], True),
        ([(b"", b""), (b"a", b"a"), (b"b", b"b")], False),
        ([(b"a", b"t/a"), (b"b", b"t/a-b"), (b"a/c", b"t/a/c")], False),
    ],
)
def test_entries_of_a_list_that_may_meet(entries: list[tuple[bytes, bytes]], wanted: bool, tmp_path: Path) -> None:
    assert overlap([Request(name(tmp_path, original, below=below)) for original, below in entries]) is wanted
    inside = [Request(name(tmp_path / "in", original, below=below)) for original, below in entries]
    above = Request(name(tmp_path, b"other", below=b"in"))
    assert overlap([*inside, above])  # a volume that lies in another
