"""A backup of type tar: read by Python's tarfile, entry by entry; history; what changes while it is read."""

import io
import os
import stat
import tarfile
from array import array
from pathlib import Path

import pytest

from mover.data import tar_objects
from mover.data.backup_format import PackSmall
from mover.data.tar_format import BLOCK_BYTES, DIRECTORY, RECORD_BYTES, acl_text, pack_header
from mover.ring import DataGauge, Kind
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import Outcome, backup_here, request
from tests.data.test_backup import attributes, content, found
from tests.data.test_backup_faults import change_after_scan, refuse
from tests.support.trees import make_tree

WARNING, ERROR = 3, 2
TYPES = {0o04: b"5", 0o01: b"6", 0o02: b"3", 0o06: b"4", 0o10: b"0", 0o12: b"2"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tar") / "tree"
    make_tree(root, wide=300, depth=12, huge_sparse=False, large_xattrs=True, sub_microsecond=True)
    place = os.fsencode(root / "names")
    for name, time_ns in ((b"late", 2**33 * 10**9 + 123_456_789), (b"early", -(10**9) - 1)):
        with open(place + b"/" + name, "xb") as file:
            file.write(name)
        os.utime(place + b"/" + name, ns=(time_ns, time_ns))
    deep = place + b"/" + b"d" * 100 + b"/" + b"e" * 100
    os.makedirs(deep)
    for name in (b"short", b"n" * 100, b"n" * 101, b"\xff" * 101):
        with open(deep + b"/" + name, "xb") as file:
            file.write(name)
        with open(deep + b"/sparse-" + name, "xb") as file:
            file.truncate(100_000)
        os.symlink(b"/" + name * 2, deep + b"/link-" + name)
        os.link(deep + b"/" + name, deep + b"/hard-" + name)
    return root


@pytest.fixture(scope="module", params=[1 << 20, 64_007, 5_000], ids=["1 MiB", "64,007", "5,000"])
def whole(request: pytest.FixtureRequest, tree: Path) -> Outcome:
    return backup_tar(tree, slot_bytes=request.param)


def test_a_small_file_at_a_slots_end_has_the_header_of_the_others(tmp_path: Path) -> None:
    """So that a recover knows it at a glance; only what must be told otherwise is."""
    for directory in ("a", "b" * 60 + "/" + "c" * 60, "d" * 160):
        (tmp_path / "tree" / directory).mkdir(parents=True)
        for number in range(60):
            (tmp_path / "tree" / directory / f"f{number:02}").write_bytes(b"x" * 100 * number)
    stream = backup_tar(tmp_path / "tree", slot_bytes=9_999).stream
    prefixes: dict[bytes, set[bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        for member in tar:
            if member.isreg():
                header = stream[member.offset_data - BLOCK_BYTES : member.offset_data]
                prefixes.setdefault(os.path.dirname(os.fsencode(member.name)), set()).add(header[345:500].rstrip(b"\0"))
    assert prefixes == {path: {path if len(path) <= 155 else b""} for path in prefixes}
    assert len(prefixes) == 3


def backup_tar(
    tree: Path, *, slot_bytes: int = 1 << 20, history: HistoryPlan | None = None, exclude: bytes = b""
) -> Outcome:
    env = [(b"EXCLUDE", exclude)]
    message = request(tree.parent, path=os.fsencode(tree.name), history=history, butype="tar", env=env)
    return backup_here(message, slot_bytes=slot_bytes)


def read(stream: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(stream), encoding="utf-8", errors="surrogateescape")


def members(stream: bytes) -> dict[bytes, tarfile.TarInfo]:
    """Path relative to the root -> member; each path once, each below its directory, which came before."""
    by_path: dict[bytes, tarfile.TarInfo] = {}
    for member in read(stream):
        name = os.fsencode(member.name)
        assert name == b"." or name.startswith(b"./")
        path = name[2:]
        assert path not in by_path
        if path:
            assert by_path[os.path.dirname(path)].isdir()
        by_path[path] = member
    return by_path


class FromStream(tarfile.TarFile):
    """Only what ExFileObject asks of a TarFile: the bytes."""

    def __init__(self, stream: bytes) -> None:
        self.fileobj = io.BytesIO(stream)


def text_of(stream: bytes, member: tarfile.TarInfo) -> bytes:
    """The content of a regular file, holes filled."""
    file = tarfile.ExFileObject(FromStream(stream), member)
    return file.read()


def holdable(tree: Path) -> dict[bytes, os.stat_result]:
    return {path: status for path, status in found(tree).items() if not stat.S_ISSOCK(status.st_mode)}


def sockets_in(tree: Path) -> list[bytes]:
    return [path for path, status in found(tree).items() if stat.S_ISSOCK(status.st_mode)]


def nanoseconds(member: tarfile.TarInfo, keyword: str) -> int:
    text = member.pax_headers[keyword]
    seconds, fraction = text.lstrip("-").split(".")
    return (-1 if text.startswith("-") else 1) * (int(seconds) * 10**9 + int(fraction))


def stored_attributes(member: tarfile.TarInfo) -> dict[bytes, bytes]:
    stored = {}
    for keyword, value in member.pax_headers.items():
        if keyword.startswith("SCHILY."):
            name = keyword.removeprefix("SCHILY.").removeprefix("xattr.").replace("%3D", "=").replace("%25", "%")
            stored[os.fsencode(name)] = os.fsencode(value)
    return stored


def as_stored(attributes: dict[bytes, bytes]) -> dict[bytes, bytes]:
    acls = {b"system.posix_acl_access": b"acl.access", b"system.posix_acl_default": b"acl.default"}
    return {acls.get(name, name): acl_text(value) if name in acls else value for name, value in attributes.items()}


def test_every_entry_is_in_the_stream_as_it_is_on_disk(tree: Path, whole: Outcome) -> None:
    stream, root = whole.stream, os.fsencode(tree)
    by_path, entries = members(stream), holdable(tree)
    assert by_path.keys() == entries.keys()
    first_names: dict[int, bytes] = {}
    for path, member in by_path.items():
        status, place = entries[path], root + b"/" + path
        assert (member.uid, member.gid, member.mode) == (status.st_uid, status.st_gid, status.st_mode & 0o7777), path
        times = tuple(nanoseconds(member, keyword) for keyword in ("mtime", "ctime"))
        assert times == (status.st_mtime_ns, status.st_ctime_ns), path
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = first_names.setdefault(status.st_ino, path)
            if first != path:
                assert (member.type, os.fsencode(member.linkname), member.size) == (b"1", b"./" + first, 0), path
                continue
        assert member.type == TYPES[status.st_mode >> 12], path
        assert stored_attributes(member) == as_stored(attributes(place)), path
        if member.ischr() or member.isblk():
            assert os.makedev(member.devmajor, member.devminor) == status.st_rdev, path
        if member.issym():
            assert os.fsencode(member.linkname) == os.readlink(place), path
        if member.isreg():
            assert text_of(stream, member) == content(place, status), path


def test_the_figures_are_those_of_the_tree(tree: Path, whole: Outcome) -> None:
    entries = found(tree)
    kept = holdable(tree)
    directories = sum(stat.S_ISDIR(status.st_mode) for status in kept.values())
    inodes = len({status.st_ino for status in kept.values()})
    finished = whole.finished
    assert (finished.reason, finished.text, finished.errors) == (1, "", 0)
    assert (finished.directories, finished.files) == (directories, inodes - directories)
    assert finished.stream_bytes == len(whole.stream) == whole.gauges[DataGauge.STREAM_BYTES]
    assert finished.stream_bytes % RECORD_BYTES == 0
    assert whole.stream[-2 * BLOCK_BYTES :] == bytes(2 * BLOCK_BYTES)
    assert whole.end == Kind.END
    sockets = len(entries) - len(kept)
    lines = whole.lines(WARNING)
    assert len(lines) == sockets
    assert all(line.endswith("socket: left out: it is a socket, which a tar stream cannot hold") for line in lines)
    (summary,) = whole.lines(0)
    assert (f"{sockets} object left out by their kind" in summary) == bool(sockets)


def test_holes_are_left_out(tree: Path, whole: Outcome) -> None:
    by_path = members(whole.stream)
    for name in (b"sparse/hole-only", b"sparse/hole-last", b"sparse/holes-many"):
        member = by_path[name]
        assert member.pax_headers["GNU.sparse.major"] == "1"
        assert member.size == (tree / os.fsdecode(name)).stat().st_size
    # Blocks of data and one of map.
    ends = sorted(member.offset for member in by_path.values())
    only = by_path[b"sparse/hole-only"]
    assert ends[ends.index(only.offset) + 1] - only.offset == 4 * BLOCK_BYTES
    assert "GNU.sparse.major" not in by_path[b"sizes/zeros-written"].pax_headers


def test_only_text_that_is_not_utf_8_names_another_character_set(whole: Outcome) -> None:
    for path, member in members(whole.stream).items():
        name = os.path.basename(path)
        odd = not name.isascii() and (len(name) > 100 or b"sparse-" in name or name.startswith(b"link-"))
        assert ("hdrcharset" in member.pax_headers) == (odd and b"\xff" in name), path


def test_every_member_names_its_stream(whole: Outcome) -> None:
    identity = dict(whole.finished.env)[b"MOVER_DUMP_ID"]
    for member in members(whole.stream).values():
        header = whole.stream[member.offset : member.offset + BLOCK_BYTES]
        assert header[156:157] == b"x"
        assert header[:100].rstrip(b"\0") == b"mover." + identity
    root = members(whole.stream)[b""]
    assert root.pax_headers["comment"].startswith("backup of /export/data on files1, ")


# --- history -------------------------------------------------------------------------------------------------


def told(outcome: Outcome) -> list[fh_reader.Name | fh_reader.Attributes]:
    return [element for kind, body in outcome.posts for element in fh_reader.elements(kind, body)]


@pytest.mark.parametrize("version", [2, 4])
def test_history_names_every_path_with_the_place_of_its_data(tree: Path, version: int) -> None:
    outcome = backup_tar(tree, history=HistoryPlan(version, "file"))
    by_path, entries = members(outcome.stream), holdable(tree)
    data: dict[int, int] = {}
    paths = set()
    for element in told(outcome):
        assert isinstance(element, fh_reader.Attributes)
        path = element.path[1:]
        assert element.path[:1] == b"/"
        assert path not in paths
        paths.add(path)
        member, status = by_path[path], entries[path]
        # All names of an inode have the position of the member with its data.
        assert element.fh_info == data.setdefault(status.st_ino, member.offset), path
        assert (element.owner, element.group, element.fattr) == (
            status.st_uid,
            status.st_gid,
            status.st_mode & 0o7777,
        )
        assert element.size == (status.st_size if stat.S_ISREG(status.st_mode) else 0)
    assert paths == entries.keys()
    assert outcome.finished.history_entries == len(paths)


def test_history_by_node_follows_its_rules(tree: Path) -> None:
    outcome = backup_tar(tree, history=HistoryPlan(4, "dir"))
    by_path = members(outcome.stream)
    own = {2: b""}
    nodes: dict[int, int] = {}
    paths: dict[bytes, int] = {b"": 2}
    names = []
    for element in told(outcome):
        if isinstance(element, fh_reader.Attributes):
            assert element.node in paths.values()
            assert element.node not in nodes
            nodes[element.node] = element.fh_info
            continue
        names.append(element)
        if element.name not in {b".", b".."}:
            above = own[element.parent]
            path = above + b"/" + element.name if above else element.name
            paths[path] = element.node
            own.setdefault(element.node, path)
    assert names[:2] == [(b".", 2, 2), (b"..", 2, 2)]
    assert paths.keys() == by_path.keys()
    for path, node in paths.items():
        if not by_path[path].islnk():
            assert nodes[node] == by_path[path].offset, path
    assert nodes.keys() == set(paths.values())


def test_each_member_is_an_archive_alone(tree: Path, whole: Outcome) -> None:
    stream = whole.stream
    by_path = members(stream)
    offsets = sorted(member.offset for member in by_path.values())
    ends = dict(zip(offsets, [*offsets[1:], len(stream)], strict=True))
    for path, member in by_path.items():
        ((alone_path, alone),) = [
            (os.fsencode(each.name)[2:], each) for each in read(stream[member.offset : ends[member.offset]])
        ]
        assert (alone_path, alone.type, alone.size) == (path, member.type, member.size)


# --- what changes while it is read, and what cannot be read ---------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A few files in two directories."""
    root = tmp_path / "small"
    (root / "below").mkdir(parents=True)
    for name in ("first", "second", "below/other"):
        (root / name).write_bytes(name.encode() * 1000)
    return root


@pytest.mark.parametrize("size", [3000, 3_000_000])
def test_a_file_that_shrinks_is_filled_with_zeros(small: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    path = small / "second"
    path.write_bytes(b"s" * size)
    inode, readv, preadv = path.stat().st_ino, os.readv, os.preadv

    def cut(fd: int, buffers: list[memoryview]) -> int:
        if os.fstat(fd).st_ino == inode:
            os.truncate(path, 1000)
        for buffer in buffers:  # a slot of the ring holds what went through it before, of other files
            buffer[:] = b"?" * len(buffer)
        return fd

    monkeypatch.setattr(os, "readv", lambda fd, buffers: readv(cut(fd, buffers), buffers))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(cut(fd, buffers), buffers, offset))
    outcome = backup_tar(small)
    by_path = members(outcome.stream)
    assert text_of(outcome.stream, by_path[b"second"]) == b"s" * 1000 + bytes(size - 1000)
    assert by_path.keys() == found(small).keys()
    assert outcome.lines(WARNING) == [
        f"/export/data/second: shrank while it was read: its last {size - 1000} bytes are zeros"
    ]
    assert outcome.finished.errors == 1


def test_a_file_that_cannot_be_opened_is_left_out(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(small / "first", small / "below" / "again")
    refuse(monkeypatch, "open", b"first", 13)
    refuse(monkeypatch, "open", b"again", 13)
    outcome = backup_tar(small, history=HistoryPlan(4, "file"))
    assert members(outcome.stream).keys() == {b"", b"second", b"below", b"below/other"}
    assert {element.path for element in told(outcome) if isinstance(element, fh_reader.Attributes)} == {
        b"/", b"/second", b"/below", b"/below/other",
    }  # fmt: skip
    assert outcome.lines(ERROR) == ["/export/data/first: left out: Permission denied (EACCES)"]


def test_an_inode_whose_first_name_vanishes_is_read_by_another(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(small / "first", small / "below" / "again")
    change_after_scan(monkeypatch, (small / "first").unlink)
    outcome = backup_tar(small)
    by_path = members(outcome.stream)
    assert text_of(outcome.stream, by_path[b"first"]) == b"first" * 1000
    assert by_path[b"below/again"].linkname == "./first"


def test_a_link_to_a_socket_is_left_out_with_it(small: Path) -> None:
    os.mknod(small / "socket", stat.S_IFSOCK | 0o600)
    os.link(small / "socket", small / "below" / "socket")
    outcome = backup_tar(small, history=HistoryPlan(4, "dir"))
    assert members(outcome.stream).keys() == found(small).keys() - {b"socket", b"below/socket"}
    assert not any(isinstance(element, fh_reader.Name) and element.name == b"socket" for element in told(outcome))
    assert (len(outcome.lines(WARNING)), outcome.finished.errors) == (1, 0)


def test_names_left_out(small: Path) -> None:
    assert members(backup_tar(small, exclude=b"below").stream).keys() == {b"", b"first", b"second"}


# --- numbers and maps ----------------------------------------------------------------------------------------


def test_what_lies_behind_too_many_segments_counts_as_data(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small / "sparse"
    with path.open("xb") as file:
        for offset in range(0, 4 << 20, 1 << 20):
            file.seek(offset + (1 << 19))
            file.write(b"data at %d" % offset)
        file.truncate(5 << 20)
    whole = members(backup_tar(small).stream)[b"sparse"].offset
    monkeypatch.setattr(tar_objects, "SEGMENTS_MAX", 2)
    outcome = backup_tar(small)
    member = members(outcome.stream)[b"sparse"]
    assert member.offset == whole
    assert text_of(outcome.stream, member) == path.read_bytes()
    map_at = member.offset + 3 * BLOCK_BYTES
    assert outcome.stream[map_at:].split(b"\n", 1)[0] == b"2"


def packed(pack: PackSmall, name: bytes, uid: int, gid: int, size: int, seconds: int, below: int) -> tarfile.TarInfo:
    """The headers of a small file, read by tarfile."""
    slot = bytearray(3 * BLOCK_BYTES)
    time_ns = seconds * 10**9 + below
    arguments = (0o104755, uid, gid, size, 8, seconds, seconds, seconds, time_ns, time_ns, time_ns)
    pack(memoryview(slot), 0, 0, 7, name, *arguments)
    (member,) = read(bytes(slot) + bytes(-(-size // 512) * 512 + 1024))
    return member


@pytest.mark.parametrize(
    ("uid", "gid", "seconds"),
    [(0, 0, 0), (2**21 - 1, 2**21 - 1, 2**32 - 1), (2**21, 5, 10**9), (5, 2**32 - 2, 10**9 - 1)],
)
@pytest.mark.parametrize("name", [b"n", b"\xff" * 100])
def test_the_headers_of_a_small_file(uid: int, gid: int, seconds: int, name: bytes) -> None:
    pack = tar_objects._small_packer(tar_objects._Extended(b"x" * 15), b"./" + b"\xfe" * 153)
    member = packed(pack, name, uid, gid, 4096, seconds, 123_456_789)
    assert os.fsencode(member.name) == b"./" + b"\xfe" * 153 + b"/" + name
    assert (member.uid, member.gid, member.size, member.mode) == (uid, gid, 4096, 0o4755)
    for keyword in ("mtime", "atime", "ctime"):
        assert member.pax_headers[keyword] == f"{seconds}.123456789"


def test_a_size_beyond_the_header_s_number_is_a_record() -> None:
    assert tar_objects._large_numbers(0, 0, 8 << 30) == [b"19 size=8589934592\n"]
    assert tar_objects._large_numbers(1 << 21, 1 << 31, 1) == [b"15 uid=2097152\n", b"18 gid=2147483648\n"]


def test_a_file_without_holes_has_no_map(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert tar_objects._segments(fd, 10_000) is None
        assert tar_objects._segments(fd, 20_000) in (array("Q", [0, 10_000]), array("Q", [0, 12_288]))
    finally:
        os.close(fd)


def test_the_extended_header_of_a_member_is_no_member_to_older_readers() -> None:
    header = pack_header(b"mover.x", b"PaxHeaders", b"x")
    assert tarfile.TarInfo.frombuf(header, "ascii", "strict").name == "PaxHeaders/mover.x"
    assert DIRECTORY == tarfile.DIRTYPE


def test_attributes_that_no_reader_would_take_are_left_out(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inode = (small / "first").stat().st_ino

    def names(target: object, **_: bool) -> list[str]:
        return ["user.a", "user.b"] if isinstance(target, int) and os.fstat(target).st_ino == inode else []

    monkeypatch.setattr(os, "listxattr", names)
    monkeypatch.setattr(os, "getxattr", lambda _, name, **__: name[-1:].encode() * 600)
    monkeypatch.setattr(tar_objects, "EXTENDED_BYTES_MAX", 2000)
    outcome = backup_tar(small)
    assert stored_attributes(members(outcome.stream)[b"first"]) == {b"user.a": b"a" * 600}
    (line,) = outcome.lines(ERROR)
    assert line == "/export/data/first: attribute 'user.b' left out: there are more than 1000 bytes of them"
    assert outcome.finished.errors == 1


def test_a_block_of_attributes_is_not_taken_for_content(tmp_path: Path) -> None:
    """On ext4 it counts as one of the file's blocks, as many as a small hole would have."""
    place = tmp_path / "holes"
    place.touch()
    os.setxattr(place, "user.long", b"x" * 1000)
    os.truncate(place, 3000)
    outcome = backup_here(request(tmp_path, butype="tar"))
    assert b"GNU.sparse.major=1" in outcome.stream
