"""The quick ways of a recover against the complete one: the same stream, however it is cut, gives the same."""

import itertools
import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from mover.data.codes import LogType
from mover.data.recover_files import FileRecoverer
from mover.data.recover_options import OVERWRITE
from mover.data.tar_recover_second import SmallFiles
from mover.ring import Kind
from mover.workers.data_messages import Pairs
from tests.data.dump_writer import DumpWriter, Meta, attribute_blob
from tests.data.recover_runner import Outcome, name, recover, recover_here
from tests.data.tar_writer import TarWriter, base_256, record

_ROOT: Final = os.geteuid() == 0
_ID: Final = b"mover.0123456789abcdef"
_OWNERS: Final = ((os.geteuid(), os.getegid()), (1000, 100), (os.geteuid(), 1000), (1001, os.getegid()))
_MODES: Final = (0o644, 0o600, 0o640, 0o4755, 0o2710, 0o444, 0o000, 0o777)
_SIZES: Final = (0, 1, 511, 512, 513, 700, 1024, 1025, 3_000, 9_999, 60_000, 70_000)
_FILES: Final = 60
_MADE_NOW_NS: Final = 1_700_000_000_000_000_000
_CUTS: Final = ((1, 1_500), (511,), (512, 70_000), (513, 5_120, 9_999), (1_024, 1_025), (70_000, 3), (200_000,))
_WORTH_SOON: Final = """
from mover.data import recover_files, tar_recover_second
recover_files.WORTH_ENTRIES = tar_recover_second._WORTH_FILES = 5
"""
_SOON: Final = f"""
from mover.data import second_writer
second_writer.RUN, second_writer.FULL = 3, 9
{_WORTH_SOON}
"""
# Behind each batch the worker goes on itself.
_OTHER_IS_BUSY: Final = """
from mover.data import second_writer
real_hand_over = second_writer.Shared.hand_over
def hand_over(shared):
    real_hand_over(shared)
    return False
second_writer.Shared.hand_over = hand_over
"""
_OTHER_IS_SLOW: Final = """
import os, time
real_open, worker = os.open, os.getpid()
def open_file(*arguments, **named):
    if os.getpid() != worker:
        time.sleep(0.01)
    return real_open(*arguments, **named)
os.open = open_file
"""
_DIES: Final = """
import os, signal
real_write, worker, turn = os.write, os.getpid(), 0
def write(fd, data):
    global turn
    if os.getpid() != worker and len(data) > 10:
        turn += 1
        if turn == 5:
            real_write(fd, data[:10])
            os.kill(os.getpid(), signal.SIGKILL)
    return real_write(fd, data)
os.write = write
"""
_HEADER_BY_HEADER: Final = """
from mover.data.recover_files import FileRecoverer
from mover.data.tar_recover_second import SmallFiles
def step_by_step(recoverer):
    while recoverer.step():
        pass
FileRecoverer._run_little_endian, SmallFiles.run = step_by_step, lambda _: None
"""
# A full disk for every fifth name or so, and an owner that is none in this user namespace.
_FAULTS: Final = """
import errno, os, zlib
real_write, real_pwrite, real_fchown = os.write, os.pwrite, os.fchown
def is_full(fd, part):
    return zlib.crc32(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).encode()) % 6 == part
def write(fd, data):
    if is_full(fd, 0):
        return real_write(fd, data[: len(data) // 2])
    if is_full(fd, 1):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real_write(fd, data)
def pwrite(fd, data, at):
    if is_full(fd, 0) or is_full(fd, 1):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return real_pwrite(fd, data, at)
def fchown(fd, uid, gid):
    if uid == 1001:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    real_fchown(fd, uid, gid)
os.write, os.pwrite, os.fchown = write, pwrite, fchown
"""
_NOTHING_REMOVED: Final = """
def unlink(name, *, dir_fd=None):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.unlink = unlink
"""

Tree = dict[str, tuple[object, ...]]


class Told(NamedTuple):
    """What a recover came to, as far as it does not depend on the order of its lines."""

    reason: int
    text: str
    files: int
    errors: int
    file_bytes: int
    stream_bytes: int
    lines: list[tuple[int, bytes]]
    tree: Tree


def tree_of(root: Path) -> Tree:
    """Everything below a directory, as far as a recover sets it."""
    found: Tree = {}
    first: dict[int, str] = {}
    for above, directories, files in os.walk(root):
        for each in sorted([*directories, *files]):
            path = Path(above, each)
            status = path.lstat()
            relative = path.relative_to(root).as_posix()
            same = first.setdefault(status.st_ino, relative)
            if same != relative:
                found[relative] = (same,)
                continue
            # What the stream has lost the times of has those of its making.
            times = [when for when in (status.st_atime_ns, status.st_mtime_ns) if when < _MADE_NOW_NS]
            if stat.S_ISDIR(status.st_mode):
                del times[:-1]  # it was read
            content: object = None
            if stat.S_ISREG(status.st_mode):
                if not _ROOT:
                    path.chmod(0o600)
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _attributes(path)}
            found[relative] = (status.st_mode, status.st_uid, status.st_gid, times, content, attributes)
    return found


def _attributes(path: Path) -> list[str]:
    return [key for key in os.listxattr(path, follow_symlinks=False) if not key.startswith("security.")]


# --- streams ---------------------------------------------------------------------------------------------------


class _Thing(NamedTuple):
    """A file of a stream."""

    name: bytes
    content: bytes
    mode: int
    uid: int
    gid: int
    links: tuple[bytes, ...] = ()
    attribute: bytes = b""
    holes: bool = False


def things(seed: int, count: int = _FILES) -> list[_Thing]:
    """Files of which most are small and simple, in runs of one owner as a tree has them."""
    draw = random.Random(seed)
    found = []
    uid, gid = _OWNERS[0]
    for number in range(count):
        if not draw.randrange(6):
            uid, gid = draw.choice(_OWNERS if _ROOT else _OWNERS[:1])
        content = draw.randbytes(draw.choice(_SIZES))
        odd = draw.randrange(12)
        if odd == 0:
            content = draw.randbytes(draw.randrange(2_000)) + bytes(draw.choice([4_096, 40_960])) + b"e"
        stem = b"file-%d" % number
        if odd == 1:
            stem = stem.ljust(255, b"x")
        found.append(
            _Thing(
                stem,
                content,
                draw.choice(_MODES) if odd == 2 else draw.choice((0o644, 0o640, 0o600)),
                uid,
                gid,
                (b"link-%d" % number,) if odd == 3 else (),
                b"value %d" % number if odd == 4 else b"",
                odd == 0,
            )
        )
    return found


def dump_of(found: Sequence[_Thing]) -> bytes:
    writer = DumpWriter().begin(range(2, 10 + len(found)))
    entries: list[tuple[int, bytes]] = []
    for number, thing in enumerate(found, 10):
        entries += [(number, each) for each in (thing.name, *thing.links)]
    writer.directory(2, [(3, b"d")], meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    writer.directory(3, entries, meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    for number, thing in enumerate(found, 10):
        meta = Meta(stat.S_IFREG | thing.mode, thing.uid, thing.gid, 1 + len(thing.links), 1_600_000_000 + number)
        writer.content(number, meta, thing.content, holes=thing.holes)
        if thing.attribute:
            writer.extension(number, meta, attribute_blob([(1, b"a", thing.attribute)]))
    return writer.end(3)


class OwnTar(TarWriter):
    """A stream as of mover itself."""

    def begin(self) -> "OwnTar":
        self.times(1)
        self.header(b"./", b"5", mode=0o755)
        self.times(2)
        self.header(b"./d/", b"5", mode=0o755)
        return self

    def times(self, number: int, more: bytes = b"") -> "OwnTar":
        second = 1_600_000_000 + number
        records = b"".join(record(b"%stime" % which, b"%d.%09d" % (second, number)) for which in (b"m", b"a", b"c"))
        data = records + more
        self.header(_ID, b"x", size=len(data), mtime=0, uid=0, gid=0, prefix=b"PaxHeaders").data(data)
        return self

    def thing(self, number: int, thing: _Thing) -> "OwnTar":
        more = record(b"SCHILY.xattr.user.a", thing.attribute) if thing.attribute else b""
        if len(thing.name) > 100:
            more += record(b"path", b"./d/" + thing.name)
        self.times(number, more)
        self.header(
            thing.name[:100], size=len(thing.content), mode=thing.mode, uid=thing.uid, gid=thing.gid,
            minor=1 + len(thing.links) if thing.links else 0, prefix=b"./d",
        )  # fmt: skip
        self.data(thing.content)
        for link in thing.links:
            self.times(number).link(b"./d/" + link, b"./d/" + thing.name)
        return self


def tar_of(found: Sequence[_Thing]) -> bytes:
    writer = OwnTar().begin()
    for number, thing in enumerate(found, 10):
        writer.thing(number, thing)
    return writer.end()


_STREAMS: Final = {"dump": dump_of, "tar": tar_of}


# --- both ways -------------------------------------------------------------------------------------------------


def told(outcome: Outcome, root: Path) -> Told:
    finished = outcome.finished
    assert outcome.stderr == b""
    lines = sorted((kind, line.replace(os.fsencode(root), b"")) for kind, line in outcome.lines)
    return Told(
        finished.reason,
        finished.text,
        finished.files,
        finished.errors,
        finished.file_bytes,
        finished.stream_bytes,
        lines,
        tree_of(root) if root.exists() else {},
    )


def the_complete_way(stream: bytes, root: Path, butype: str, end: Kind = Kind.END) -> Told:
    """One process, header by header."""

    def step_by_step(recoverer: FileRecoverer) -> None:
        while recoverer.step():
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileRecoverer, "_run_little_endian", step_by_step)
        patch.setattr(SmallFiles, "run", lambda _: None)
        root.mkdir()
        return told(recover_here(stream, [name(root)], butype=butype, end=end), root)


def the_quick_way(stream: bytes, root: Path, butype: str, lengths: Sequence[int] = (), end: Kind = Kind.END) -> Told:
    """One process, cut into pieces."""
    root.mkdir()
    return told(recover_here(stream, [name(root)], butype=butype, lengths=lengths, end=end), root)


def in_a_worker(
    stream: bytes,
    root: Path,
    butype: str,
    lengths: Sequence[int] = (),
    *,
    env: Pairs | None = None,
    end: Kind = Kind.END,
    first: str = "",
) -> Told:
    """A real worker, whose second writer begins soon and gets few files at a time.

    Args:
        first: what its process runs before anything else.
    """
    root.mkdir()
    outcome = recover(
        stream, [name(root)], butype=butype, lengths=lengths or (1 << 18,), slot_bytes=1 << 18, env=env, end=end,
        first=first + _SOON,
    )  # fmt: skip
    return told(outcome, root)


needs_two_processors = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")


@pytest.fixture(params=["dump", "tar"])
def butype(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("lengths", _CUTS, ids=str)
def test_cut_anywhere(butype: str, lengths: tuple[int, ...], tmp_path: Path) -> None:
    stream = _STREAMS[butype](things(len(lengths) + lengths[0], 30))
    expected = the_complete_way(stream, tmp_path / "out-all", butype)
    assert expected.reason == 1
    assert expected.errors == 0
    assert the_quick_way(stream, tmp_path / "out-quick", butype, lengths) == expected


@pytest.mark.slow
def test_damaged_and_cut_anywhere(butype: str, tmp_path: Path) -> None:
    whole = _STREAMS[butype](things(7, 12))
    draw = random.Random(11)
    for number in range(30):
        stream, end = bytearray(whole), Kind.END
        if number % 3:
            for _ in range(draw.randrange(1, 4)):
                stream[draw.randrange(len(stream))] ^= 1 << draw.randrange(8)
        else:
            del stream[draw.randrange(len(stream)) :]
            end = draw.choice([Kind.END, Kind.FAILED])
        expected = the_complete_way(bytes(stream), tmp_path / f"out-all-{number}", butype, end)
        found = the_quick_way(bytes(stream), tmp_path / f"out-quick-{number}", butype, draw.choice(_CUTS), end)
        assert found == expected, number


@needs_two_processors
@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(), (9_999, 513), (70_000,)], ids=str)
def test_two_processes_and_cut_anywhere(butype: str, lengths: tuple[int, ...], tmp_path: Path) -> None:
    stream = _STREAMS[butype](things(3, 150))
    expected = the_complete_way(stream, tmp_path / "out-all", butype)
    assert in_a_worker(stream, tmp_path / "out-two", butype, lengths) == expected


@needs_two_processors
@pytest.mark.slow
def test_files_behind_one_of_holes_that_lies_in_two_slots(tmp_path: Path) -> None:
    """Its records are few in the stream: what is taken for them holds the files behind it."""
    found = [
        _Thing(b"file-%d" % number, bytes(40_960) if number % 6 == 5 else b"%d" % number * 300, 0o644, *_OWNERS[0],
               holes=number % 6 == 5)
        for number in range(150)
    ]  # fmt: skip
    stream = dump_of(found)
    expected = the_complete_way(stream, tmp_path / "out-all", "dump")
    assert expected.errors == 0
    assert in_a_worker(stream, tmp_path / "out-two", "dump", (30_000,)) == expected


@needs_two_processors
@pytest.mark.slow
@pytest.mark.parametrize("end", [Kind.END, Kind.FAILED])
def test_two_processes_and_an_end_in_the_middle(butype: str, end: Kind, tmp_path: Path) -> None:
    whole = _STREAMS[butype](things(4, 150))
    stream = whole[: len(whole) * 2 // 3]
    lengths = (9_999, 40_000)
    expected = in_a_worker(stream, tmp_path / "out-all", butype, lengths, end=end, first=_HEADER_BY_HEADER)
    assert expected.reason == 4
    assert in_a_worker(stream, tmp_path / "out-two", butype, lengths, end=end) == expected


@needs_two_processors
@pytest.mark.slow
def test_disk_that_is_full_in_either_process(butype: str, tmp_path: Path) -> None:
    stream = _STREAMS[butype]([thing for thing in things(6, 200) if thing.content])
    expected = in_a_worker(stream, tmp_path / "out-all", butype, first=_FAULTS + _HEADER_BY_HEADER)
    assert expected.errors > 30
    found = in_a_worker(stream, tmp_path / "out-two", butype, (30_000, 513), first=_FAULTS)
    # Which of them is named is a matter of the order.
    assert [_without_first_name(each) for each in found.lines] == [_without_first_name(each) for each in expected.lines]
    assert found._replace(lines=[]) == expected._replace(lines=[])


@pytest.mark.slow
def test_half_a_file_that_cannot_be_removed_is_told(butype: str, tmp_path: Path) -> None:
    """A full file system that writes anew what it changes needs room to remove."""
    found = [thing for thing in things(6, 60) if len(thing.content) > 1 and not thing.links]
    told_of = in_a_worker(_STREAMS[butype](found), tmp_path / "out", butype, first=_FAULTS + _NOTHING_REMOVED)
    assert told_of.reason == 1
    contents = {"d/" + os.fsdecode(thing.name): thing.content for thing in found}
    halves = {path for path, (*_, content, _) in told_of.tree.items() if content != contents.get(path)} - {"d"}
    assert halves
    errors = b"\n".join(line for kind, line in told_of.lines if kind == LogType.ERROR)
    assert {path for path in halves if os.fsencode(path) not in errors} == set()


def _without_first_name(line: tuple[int, bytes]) -> bytes:
    return b"owner left out" if b": owner left out: " in line[1] else line[1]


@needs_two_processors
@pytest.mark.slow
@pytest.mark.parametrize("env", [[], [(OVERWRITE, b"N")]], ids=["replaces", "keeps"])
def test_what_a_second_writer_leaves_in_halves_is_not_taken_for_older(butype: str, env: Pairs, tmp_path: Path) -> None:
    stream = _STREAMS[butype](things(5, 150))
    expected = the_complete_way(stream, tmp_path / "out-all", butype)
    assert in_a_worker(stream, tmp_path / "out-two", butype, env=env, first=_DIES) == expected


def _odd(**fields: Any) -> Callable[[OwnTar], None]:
    """A file among the small ones that differs from them in its header's fields."""

    def add(writer: OwnTar) -> None:
        writer.times(99).file(b"odd", b"odd", **{"prefix": b"./d", **fields})

    return add


def _member(*names: bytes, flag: bytes = b"1") -> Callable[[OwnTar], None]:
    """Further names of one file, the first of them told; or directories."""

    def add(writer: OwnTar) -> None:
        for each in names:
            writer.times(98)
            if flag == b"5":
                writer.header(b"./d/" + each + b"/", flag, mode=0o755)
            else:
                writer.link(b"./d/" + each, b"./d/" + names[0])

    return add


def _again(*numbers: int) -> Callable[[OwnTar], None]:
    count = itertools.count()

    def add(writer: OwnTar) -> None:
        for number in numbers:
            writer.thing(97, _Thing(b"file-%d" % number, b"again %d" % next(count), 0o600, *_OWNERS[0]))

    return add


_AMONG_SMALL: Final = {
    "owner below zero": _odd(uid=b"-000002\0"),
    "group below zero": _odd(gid=b"-000001\0"),
    "underlined owner": _odd(uid=b"0_0_1_7\0"),
    "owner of base 256": _odd(uid=base_256(0xFFFF_FFFF, 8)),
    "mode with sign": _odd(at={100: b"+000644\0"}),
    "size with sign": _odd(size=b"+0000000003\0"),
    "size below zero": _odd(size=b"-0000000003\0"),
    "blanks for zeros": _odd(size=b"         3 \0", uid=b"     0\0\0"),
    "set-id bits": _odd(mode=0o6755, uid=os.geteuid(), gid=os.getegid()),
    "path outside": _odd(prefix=b"./d/../.."),
    "path of the root": _odd(prefix=b"/d"),
    "below a file": _odd(prefix=b"./d/file-3"),
    "below the file before": _odd(prefix=b"./d/file-24"),
    "far below the file before": _odd(prefix=b"./d/file-24/e/f"),
    "name with something behind it": _odd(at={30: b"junk"}),
    "name of another with something behind it": _odd(at={0: b"file-24\0junk"}),
    "name of full length": _odd(at={0: b"n" * 100}),
    "name of two": _odd(at={0: b"o/d"}),
    "again": _again(24, 24, 3),
    "again and again": _again(*random.Random(5).choices(range(20, 25), k=60)),
    "further names": _member(b"file-24", b"a", b"b", b"file-24"),
    "name to come": _member(b"file-30", b"a"),
    "directory for a file": _member(b"file-24", flag=b"5"),
    "directory for an early file": _member(b"file-3", flag=b"5"),
}


def _among_small(add: Callable[[OwnTar], None]) -> bytes:
    writer = OwnTar().begin()
    for number in range(40):
        if number == 25:
            add(writer)
        writer.thing(number, _Thing(b"file-%d" % number, b"%d" % number * 200, 0o644, *_OWNERS[0]))
    return writer.end()


@pytest.mark.parametrize("add", _AMONG_SMALL.values(), ids=_AMONG_SMALL.keys())
def test_odd_member_among_small_files(add: Callable[[OwnTar], None], tmp_path: Path) -> None:
    stream = _among_small(add)
    expected = the_complete_way(stream, tmp_path / "out-all", "tar")
    assert expected.reason == 1
    assert the_quick_way(stream, tmp_path / "out-quick", "tar", (9_999, 512)) == expected


@needs_two_processors
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "owner below zero",
        "name of another with something behind it",
        "again",
        "again and again",
        "further names",
        "directory for a file",
        "below the file before",
        "far below the file before",
    ],
)
@pytest.mark.parametrize("first", ["", _OTHER_IS_SLOW], ids=["", "slow"])
def test_odd_member_among_files_of_in_a_worker(case: str, first: str, tmp_path: Path) -> None:
    stream = _among_small(_AMONG_SMALL[case])
    expected = the_complete_way(stream, tmp_path / "out-all", "tar")
    assert in_a_worker(stream, tmp_path / "out-two", "tar", (9_999,), first=first) == expected


@needs_two_processors
@pytest.mark.slow
def test_a_directory_that_was_closed_for_files_made_late(tmp_path: Path) -> None:
    """Its descriptor's number may be another directory's by then."""
    writer, numbers = OwnTar().begin(), itertools.count(3)

    def add(*paths: bytes) -> None:
        for path in paths:
            writer.times(next(numbers)).file(path[2:], path, prefix=b"./" + path[:1])

    add(*(b"a/early-%d" % number for number in range(8)))
    writer.times(next(numbers)).link(b"./link", b"./a/early-0")
    add(b"b/x", b"c/y", b"b/x", b"a/x", b"a/y", b"d/x")  # one batch, with a name that comes twice
    add(*(b"d/late-%d" % number for number in range(6)))
    stream = writer.end()
    expected = the_complete_way(stream, tmp_path / "out-all", "tar")
    first = _OTHER_IS_BUSY + "second_writer.RUN, second_writer.FULL = 6, 18\n" + _WORTH_SOON
    (tmp_path / "out-two").mkdir()
    outcome = recover(stream, [name(tmp_path / "out-two")], butype="tar", first=first, directories_open=2)
    assert told(outcome, tmp_path / "out-two") == expected


def _two_directories(butype: str) -> bytes:
    """With files of the same names; what one has last the other has first."""
    names = [b"file-%d" % number for number in range(40)]
    if butype == "tar":
        writer, numbers = OwnTar().begin(), itertools.count(3)
        for path, each in [*((b"a", each) for each in names), *((b"b", each) for each in reversed(names))]:
            writer.times(next(numbers)).file(each, path, prefix=b"./" + path)
        return writer.end()
    dump = DumpWriter().begin(range(2, 100))
    dump.directory(2, [(3, b"a"), (4, b"b")], meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    dump.directory(3, list(enumerate(names, 10)), meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    dump.directory(4, list(enumerate(reversed(names), 50)), meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    for number in range(10, 90):
        dump.content(number, Meta(stat.S_IFREG | 0o644, *_OWNERS[0]), b"a" if number < 50 else b"b")
    return dump.end(3)


@needs_two_processors
@pytest.mark.slow
def test_what_two_entries_of_the_list_bring_to_one_place_is_of_the_later_one(butype: str, tmp_path: Path) -> None:
    names = [name(tmp_path, path, below=b"out") for path in (b"a", b"b")]
    outcome = recover(_two_directories(butype), names, butype=butype, first=_OTHER_IS_SLOW + _SOON)
    assert (outcome.finished.reason, outcome.finished.files, outcome.finished.errors) == (1, 80, 0)
    assert {path.read_bytes() for path in (tmp_path / "out").iterdir()} == {b"b"}


@needs_two_processors
@pytest.mark.slow
def test_of_two_objects_with_one_name_in_a_dump_the_later_one_stays(tmp_path: Path) -> None:
    names = [b"file-%d" % number for number in range(40)]
    writer = DumpWriter().begin(range(2, 100))
    writer.directory(2, list(enumerate(names * 2, 10)), meta=Meta(stat.S_IFDIR | 0o755, *_OWNERS[0]))
    for number in range(10, 90):
        writer.content(number, Meta(stat.S_IFREG | 0o644, *_OWNERS[0]), b"a" if number < 50 else b"b")
    stream = writer.end(3)
    expected = the_complete_way(stream, tmp_path / "out-all", "dump")
    assert in_a_worker(stream, tmp_path / "out-two", "dump", first=_OTHER_IS_SLOW) == expected
    assert {path.read_bytes() for path in (tmp_path / "out-two").iterdir()} == {b"b"}
