"""A backup of a tree with every kind of entry, read by a parser of the tests' own; history; environment."""

import errno
import os
import resource
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mover.data.backup_stream import BackupStream
from mover.data.xattr_blob import decode, decode_private
from mover.ring import DataGauge, Kind, Producer
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import FILESYSTEM, Outcome, backup_here, request
from tests.data.dump_reader import Dump, Object, parse
from tests.support.trees import make_tree

ILLEGAL_ARGS = 9


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("backup") / "tree"
    make_tree(root, wide=300, depth=12, huge_sparse=False, large_xattrs=True, sub_microsecond=True)
    # Beyond 32 bits of seconds, and before 1970, where the file system lets us.
    for name, time_ns in ((b"late", 2**32 * 10**9 + 123_456_789), (b"early", -(10**9) - 1)):
        path = os.fsencode(root / "sizes") + b"/" + name
        with open(path, "xb") as file:
            file.write(name)
        os.utime(path, ns=(time_ns, time_ns))
    return root


@pytest.fixture(scope="module", params=[1 << 20, 64_007, 5_000], ids=["1 MiB", "64,007", "5,000"])
def whole(request: pytest.FixtureRequest, tree: Path) -> Outcome:
    return backup_tree(tree, slot_bytes=request.param)


def backup_tree(tree: Path, *, slot_bytes: int = 1 << 20, history: HistoryPlan | None = None) -> Outcome:
    return backup_here(request(tree.parent, path=os.fsencode(tree.name), history=history), slot_bytes=slot_bytes)


def found(tree: Path) -> dict[bytes, os.stat_result]:
    """Path relative to the root -> status, as find lists it."""
    output = subprocess.run(["find", tree, "-printf", "%P\\0"], check=True, capture_output=True).stdout
    root = os.fsencode(tree)
    return {path: os.lstat(root + b"/" + path if path else root) for path in output.split(b"\0")[:-1]}


def content(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return file.read()
    return os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""


def attributes(path: bytes) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}


def stored_attributes(item: Object) -> dict[bytes, bytes]:
    blobs = [decode(blob) if kind == 3 else decode_private(blob) for kind, blob in item.blobs]
    stored = [pair for blob in blobs for pair in blob.attributes]
    assert len(dict(stored)) == len(stored)
    return dict(stored)


def test_every_entry_is_in_the_stream_as_it_is_on_disk(tree: Path, whole: Outcome) -> None:
    dump, root = parse(whole.stream), os.fsencode(tree)
    entries = found(tree)
    numbers = dump.tree()
    assert numbers.keys() == entries.keys()
    assert dump.objects.keys() == set(numbers.values()) == dump.dumped == dump.used
    for path, status in entries.items():
        item = dump.objects[numbers[path]]
        place = root + b"/" + path
        assert (item.mode, item.uid, item.gid) == (status.st_mode, status.st_uid, status.st_gid), path
        assert item.times[1:] == (status.st_mtime_ns, status.st_ctime_ns), path
        assert stored_attributes(item) == attributes(place), path
        if not stat.S_ISDIR(status.st_mode):
            assert (item.nlink, item.device) == (status.st_nlink, status.st_rdev), path
            assert item.data == content(place, status), path
            assert item.size == len(item.data)


def test_names_of_one_inode_share_its_number(tree: Path, whole: Outcome) -> None:
    numbers = parse(whole.stream).tree()
    by_inode: dict[int, set[int]] = {}
    for path, status in found(tree).items():
        by_inode.setdefault(status.st_ino, set()).add(numbers[path])
    assert all(len(shared) == 1 for shared in by_inode.values())
    assert len({numbers[name] for name in (b"links/hard-1", b"links/elsewhere/hard-3", b"zz-hard-4")}) == 1


def test_holes_are_left_out(tree: Path, whole: Outcome) -> None:
    dump = parse(whole.stream)
    numbers = dump.tree()
    assert dump.objects[numbers[b"sparse/hole-only"]].holes == list(range(586))
    assert set(range(100)) <= set(dump.objects[numbers[b"sparse/hole-first"]].holes)
    assert dump.objects[numbers[b"sizes/zeros-written"]].holes == []


def test_the_figures_are_those_of_the_tree(tree: Path, whole: Outcome) -> None:
    entries = found(tree)
    directories = sum(stat.S_ISDIR(status.st_mode) for status in entries.values())
    inodes = len({status.st_ino for status in entries.values()})
    finished = whole.finished
    assert (finished.reason, finished.text, finished.errors) == (1, "", 0)
    assert (finished.directories, finished.files) == (directories, inodes - directories)
    sizes = {status.st_ino: status.st_size for status in entries.values() if stat.S_ISREG(status.st_mode)}
    assert finished.file_bytes == sum(sizes.values())
    assert finished.stream_bytes == len(whole.stream) == whole.gauges[DataGauge.STREAM_BYTES]
    assert whole.gauges[DataGauge.TOTAL_ENTRIES] == inodes
    assert whole.gauges[DataGauge.FILES] == inodes - directories
    assert whole.end == Kind.END
    assert len(whole.lines()) == 1


def test_the_label_names_host_and_path(whole: Outcome) -> None:
    tape = parse(whole.stream).tape
    assert tape[696:760].rstrip(b"\0") == FILESYSTEM
    assert tape[824:888].rstrip(b"\0") == b"files1"


# --- history -------------------------------------------------------------------------------------------------


def history(outcome: Outcome, dump: Dump) -> tuple[list[fh_reader.Name], dict[int, fh_reader.Attributes]]:
    """All directory entries in order, and nodes; no node before its first name, offsets are those of the headers."""
    names: list[fh_reader.Name] = []
    nodes: dict[int, fh_reader.Attributes] = {}
    for kind, body in outcome.posts:
        for element in fh_reader.elements(kind, body):
            if isinstance(element, fh_reader.Name):
                names.append(element)
            else:
                assert element.node in {name.node for name in names}
                assert element.node not in nodes
                assert dump.objects[element.node].offset == element.fh_info
                nodes[element.node] = element
    return names, nodes


@pytest.mark.parametrize("version", [2, 3, 4])
def test_history_by_node_follows_its_rules(tree: Path, version: int) -> None:
    outcome = backup_tree(tree, history=HistoryPlan(version, "dir"))
    dump = parse(outcome.stream)
    names, nodes = history(outcome, dump)
    assert [kind for kind, _ in outcome.posts if kind not in ({0x701, 0x702} if version == 2 else {0x704, 0x705})] == []
    assert names[:2] == [(b".", 2, 2), (b"..", 2, 2)]
    # Each directory: its ".", its "..", all its entries, and nothing of another one in between.
    paths: dict[bytes, int] = {}
    own: dict[int, bytes] = {2: b""}
    parents = {2: 2}
    for before, name in zip([None, *names], names, strict=False):
        if name.name == b".":
            assert name.node == name.parent
        elif name.name == b"..":
            assert before == (b".", name.parent, name.parent)
            assert name.node == parents[name.parent]
        else:
            assert before is not None
            assert before.parent == name.parent
            path = own[name.parent] + b"/" + name.name if own[name.parent] else name.name
            paths[path] = name.node
            if stat.S_ISDIR(dump.objects[name.node].mode):
                own[name.node] = path
                parents[name.node] = name.parent
    entries = found(tree)
    assert {**paths, b"": 2} == dump.tree()
    assert paths.keys() | {b""} == entries.keys()
    assert nodes.keys() == dump.objects.keys()
    types = {0o04: 0, 0o01: 1, 0o02: 2, 0o06: 3, 0o10: 4, 0o12: 5, 0o14: 6}
    for path, status in entries.items():
        node = nodes[paths.get(path, 2)]
        assert node.ftype == types[status.st_mode >> 12]
        assert (node.owner, node.group, node.fattr) == (status.st_uid, status.st_gid, status.st_mode & 0o7777)
        assert node.mtime == min(max(int(status.st_mtime_ns // 10**9), 0), 2**32 - 1)
        assert node.size == (status.st_size if stat.S_ISREG(status.st_mode) else 0)
        if version != 2 and not stat.S_ISDIR(status.st_mode):
            assert node.links == status.st_nlink
    assert outcome.finished.history_entries == len(names) + len(nodes)


@pytest.mark.parametrize("version", [2, 4])
def test_history_by_path_names_every_path_once(tree: Path, version: int) -> None:
    outcome = backup_tree(tree, history=HistoryPlan(version, "file"))
    dump = parse(outcome.stream)
    numbers = dump.tree()
    paths: dict[bytes, fh_reader.Attributes] = {}
    for kind, body in outcome.posts:
        assert kind == (fh_reader.ADD_UNIX_PATH if version == 2 else fh_reader.ADD_FILE)
        for element in fh_reader.elements(kind, body):
            assert isinstance(element, fh_reader.Attributes)
            assert element.path[:1] == b"/"
            assert element.path[1:] not in paths
            paths[element.path[1:]] = element
    assert paths.keys() == found(tree).keys()
    for path, element in paths.items():
        assert element.fh_info == dump.objects[numbers[path]].offset
        assert element.node == (0 if version == 2 else numbers[path])


def test_history_goes_into_slots_smaller_than_what_is_gathered(tree: Path) -> None:
    message = request(tree, history=HistoryPlan(4, "dir"))
    outcome = backup_here(message, history_slot_bytes=1024)
    assert max(len(body) for _, body in outcome.posts) <= 1024
    _, nodes = history(outcome, parse(outcome.stream))
    assert nodes.keys() == parse(outcome.stream).objects.keys()


# --- what a request may ask for ------------------------------------------------------------------------------


def test_names_left_out(tree: Path) -> None:
    outcome = backup_here(request(tree, env=[(b"EXCLUDE", b"links,*-one,/names/--,deep/level-00")]))
    expected = {
        path
        for path in found(tree)
        if not (
            path.split(b"/")[0] == b"links"
            or path.endswith(b"-one")
            or path == b"names/--"
            or (path + b"/").startswith(b"deep/level-00/")
        )
    }
    assert parse(outcome.stream).tree().keys() == expected


def test_a_level_without_a_base_is_a_full_backup_and_says_so(tree: Path) -> None:
    outcome = backup_here(request(tree / "deep", env=[(b"LEVEL", b"3")], level=3, warnings=["this is a full backup"]))
    assert outcome.lines(3) == ["this is a full backup"]
    variables = [variable for variable, _ in outcome.finished.env]
    assert variables == [b"PATHNAME_SEPARATOR", b"MOVER_DUMP_ID", b"LEVEL", b"MOVER_STREAM_BYTES"]
    assert parse(outcome.stream).tape[692:696] == bytes(4)


def test_a_token_is_returned_when_asked_for(tree: Path) -> None:
    outcome = backup_here(request(tree / "deep", env=[(b"BASE_DATE", b"0")]))
    date = int.from_bytes(parse(outcome.stream).tape[4:8], "little")
    assert outcome.finished.env[2:-1] == [(b"DUMP_DATE", b"%d" % date)]
    assert outcome.lines(3) == []


@pytest.mark.parametrize("env", [(b"LEVEL", b"32"), (b"EXCLUDE", b"a*b"), (b"BASE_DATE", b"yesterday")])
def test_values_that_cannot_be_meant_are_refused(tree: Path, env: tuple[bytes, bytes]) -> None:
    outcome = backup_here(request(tree, env=[env]))
    assert outcome.refused.error == ILLEGAL_ARGS
    assert env[0].decode() in outcome.refused.text
    assert outcome.stream == b""


@pytest.mark.parametrize("path", [b"no/such/place", b"file", b"link", b"link/tree", b"..", b"tree/../.."])
def test_roots_that_are_no_directory_below_the_volume_are_refused(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/")
    refused = backup_here(request(tmp_path, path=path)).refused
    assert refused.error == ILLEGAL_ARGS
    assert FILESYSTEM.decode() in refused.text


def test_an_unknown_backup_type_is_refused(tmp_path: Path) -> None:
    assert "'cpio'" in backup_here(request(tmp_path, butype="cpio")).refused.text


def test_an_empty_directory_is_a_backup(tmp_path: Path) -> None:
    """It may be the place of a file system that is not mounted, so it is not passed over in silence."""
    outcome = backup_here(request(tmp_path), slot_bytes=1000)
    dump = parse(outcome.stream)
    assert dump.tree() == {b"": 2}
    assert dump.dumped == {2}
    assert outcome.finished.errors == 0
    assert outcome.lines(3) == ["/export/data/: is empty: is its file system mounted?"]


def test_what_is_mounted_inside_stays_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "inside").touch()
    mounted = (tmp_path / "mounted").stat().st_ino
    fstat = os.fstat

    def elsewhere(fd: int) -> object:
        status = fstat(fd)
        if status.st_ino != mounted:
            return status
        fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": status.st_dev + 1})

    monkeypatch.setattr(os, "fstat", elsewhere)
    outcome = backup_here(request(tmp_path))
    assert parse(outcome.stream).tree().keys() == {b"", b"mounted"}
    (line,) = outcome.lines(3)
    assert line.startswith("/export/data/mounted: is on another file system (")
    assert line.endswith("): backed up as an empty directory")
    assert outcome.finished.errors == 0


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """3,000 directories inside each other, each with a file and a second directory beside the next one."""
    top = tmp_path / "deep"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for level in range(3000):
        os.mkdir("next", dir_fd=fd)
        os.mkdir("beside", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("next", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        assert level >= 0
    os.close(fd)
    yield top
    # pytest's own removal recurses.
    subprocess.run(["rm", "-rf", top], check=True)


@pytest.mark.slow
def test_depth_costs_neither_stack_nor_descriptors(deep: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 110, hard))
    try:
        outcome = backup_here(request(deep, history=HistoryPlan(4, "file")), history_slot_bytes=1 << 18)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (outcome.finished.directories, outcome.finished.files) == (6001, 3000)
    assert (outcome.finished.errors, outcome.finished.history_entries) == (0, 9001)
    assert len(parse(outcome.stream).objects) == 9001


def test_equal_numbers_on_different_devices_are_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay can list the same number for files of two of its layers."""
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
    os.link(tmp_path / "three", tmp_path / "third")
    os.link(tmp_path / "one", tmp_path / "first")
    look = os.stat
    device = iter(range(100))

    def apart(name: bytes, **keywords: int) -> object:
        status = look(name, **keywords)  # type: ignore[arg-type]  # passed through
        fields = {field: getattr(status, field) for field in dir(status) if field.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": next(device) if name in {b"one", b"first"} else 0})

    monkeypatch.setattr(os, "stat", apart)
    numbers = parse(backup_here(request(tmp_path)).stream).tree()
    assert numbers[b"three"] == numbers[b"third"]
    assert len(set(numbers.values())) == len(numbers) - 1


def test_the_size_of_a_whole_file_system_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    assert backup_here(request(tmp_path)).gauges[DataGauge.TOTAL_BYTES] == 0
    look = os.stat

    def mounted(path: object, **keywords: int) -> object:
        status = look(path, **keywords)  # type: ignore[arg-type]  # passed through
        return SimpleNamespace(st_dev=status.st_dev + 1) if path == ".." else status

    monkeypatch.setattr(os, "stat", mounted)
    usage = SimpleNamespace(f_blocks=100, f_bfree=60, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: usage)
    assert backup_here(request(tmp_path)).gauges[DataGauge.TOTAL_BYTES] == 40 * 4096 + 2 * 1024


@pytest.mark.parametrize(
    "extents",
    [
        [(500_000, 700_000)],
        [(0, 1), (524_287, 2), (1_048_576, 600_000)],
        [(524_288, 524_288)],
        [(600_000, 10), (600_500, 10)],
    ],
)
def test_data_that_reaches_over_a_header_s_span(tmp_path: Path, extents: list[tuple[int, int]]) -> None:
    path = tmp_path / "sparse"
    with path.open("xb") as file:
        for offset, length in extents:
            file.seek(offset)
            file.write(bytes(range(1, 256)) * (length // 255 + 1))
        file.truncate(2_000_000)
    dump = parse(backup_here(request(tmp_path)).stream)
    item = dump.objects[dump.tree()[b"sparse"]]
    assert item.data == path.read_bytes()
    assert item.holes


def test_the_number_of_a_record_wraps_behind_four_tebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 2^32 records less a few were written already: c_tapea counts modulo 2^32, everything else goes on."""
    first = 2**32 - 66  # a multiple of the tape block
    for number in range(50):
        (tmp_path / f"file-{number}").write_bytes(b"%d" % number * 100)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 << 20)  # 40 headers, nearly all of them repeated
    make_stream = BackupStream.__init__

    def far_on(stream: BackupStream, producer: Producer) -> None:
        make_stream(stream, producer)
        stream.slot_start = first * 1024

    monkeypatch.setattr(BackupStream, "__init__", far_on)
    stream = bytearray(backup_here(request(tmp_path)).stream)
    headers = 0
    for index in range(len(stream) // 1024):
        (tapea,) = struct.unpack_from("<I", stream, index * 1024 + 16)
        (magic, checksum) = struct.unpack_from("<II", stream, index * 1024 + 24)
        if magic == 60012:
            headers += 1
            assert tapea == (first + index) % 2**32
            # Back to where it would be in a stream from the beginning, which the parser wants.
            struct.pack_into("<I", stream, index * 1024 + 16, index)
            struct.pack_into("<I", stream, index * 1024 + 28, (checksum + tapea - index) % 2**32)
    assert headers > 90
    dump = parse(bytes(stream))
    for path, inumber in dump.tree().items():
        if path:
            assert dump.objects[inumber].data == (tmp_path / os.fsdecode(path)).read_bytes()
