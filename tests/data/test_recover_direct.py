"""Direct access: each object comes by its own piece of the stream, and nothing is believed that does not lie there."""

import os
import stat
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.data import direct_trees
from mover.data.backup_stream import BackupStream
from mover.data.codes import RecoveryStatus
from mover.ring import Producer
from mover.workers.data_messages import HistoryPlan, Pairs
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.direct_runner import make_sources, name, recover_direct
from tests.data.dump_reader import Dump, parse
from tests.data.dump_writer import DumpWriter, Meta, attribute_blob
from tests.data.recover_runner import ALL_ONES, Outcome, WasRefused

SUCCESSFUL = 1
REGULAR = stat.S_IFREG | 0o644
BULK = 3_000_000


class Backup:
    """A dump of a tree, and where its objects lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        outcome = backup_here(request(root))
        self.stream = outcome.stream
        self.env: Pairs = outcome.finished.env
        self.dump: Dump = parse(self.stream)
        self.nodes = self.dump.tree()

    def offset(self, path: bytes) -> int:
        return self.dump.objects[self.nodes[path]].offset

    def recover(
        self,
        target: Path,
        *paths: bytes,
        env: Pairs | None = None,
        recursive: bool = True,
        with_nodes: bool = True,
        piece_bytes: int = 64 * 1024,
    ) -> Outcome:
        names = [name(target, path, self.offset(path), self.nodes[path] if with_nodes else ALL_ONES) for path in paths]
        env = self.env if env is None else env
        return recover_direct(self.stream, names, env=env, recursive=recursive, piece_bytes=piece_bytes)


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Backup:
    root = tmp_path_factory.mktemp("source")
    make_sources(root, BULK)
    (root / "later").mkdir()
    for number in range(50):
        (root / f"later/{number:03}").write_bytes(b"%d" % number * 500)
    os.link(root / "a/small", root / "later/hard")
    (root / "link").symlink_to("a/small")
    os.mkfifo(root / "pipe", 0o600)
    with (root / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    os.utime(root / "a/b", ns=(1_500_000_000_123_456_789, 1_500_000_000_987_654_321))
    (root / "a/b").chmod(0o750)
    return Backup(root)


def wanted_bytes(outcome: Outcome) -> int:
    return sum(want.length for want in outcome.wanted)


def test_each_kind_of_object_comes_by_itself(backup: Backup, tmp_path: Path) -> None:
    paths = [b"a/small", b"a/b/leaf", b"bulk", b"empty", b"link", b"pipe", b"sparse"]
    for path in paths:
        outcome = backup.recover(tmp_path, path)
        assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
        assert outcome.status == {path: RecoveryStatus.SUCCESSFUL}
        assert wanted_bytes(outcome) <= 32 * 1024 + (BULK + 8192 if path == b"bulk" else 0)
    for path in paths:
        ours, theirs = tmp_path / os.fsdecode(path), backup.root / os.fsdecode(path)
        assert ours.lstat().st_mode == theirs.lstat().st_mode
        assert ours.is_symlink() or ours.lstat().st_mtime_ns == theirs.lstat().st_mtime_ns
        if theirs.is_file():
            assert ours.read_bytes() == theirs.read_bytes()
    assert os.readlink(tmp_path / "link") == "a/small"
    assert os.getxattr(tmp_path / "a/b/leaf", "user.note") == b"n" * 3000
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 100_000


@pytest.mark.parametrize("piece_bytes", [64 * 1024, 1000, 1024, 7])
@pytest.mark.parametrize("length_is_known", [True, False])
def test_pieces_of_any_length(backup: Backup, tmp_path: Path, piece_bytes: int, length_is_known: bool) -> None:
    env = backup.env if length_is_known else [pair for pair in backup.env if pair[0] != b"MOVER_STREAM_BYTES"]
    outcome = backup.recover(tmp_path, b"sparse", b"a/b/leaf", b"empty", env=env, piece_bytes=piece_bytes)
    assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
    assert (tmp_path / "sparse").read_bytes() == (backup.root / "sparse").read_bytes()
    assert os.getxattr(tmp_path / "a/b/leaf", "user.note") == b"n" * 3000


def test_a_large_file_takes_few_reads(backup: Backup, tmp_path: Path) -> None:
    outcome = backup.recover(tmp_path, b"bulk")
    assert len(outcome.wanted) <= 3
    without = [pair for pair in backup.env if pair[0] != b"MOVER_STREAM_BYTES"]
    outcome = backup.recover(tmp_path, b"bulk", env=without)
    assert len(outcome.wanted) <= 3 + BULK // (512 * 1024)
    assert (tmp_path / "bulk").read_bytes() == (backup.root / "bulk").read_bytes()


def test_near_entries_are_read_in_one_piece_in_the_order_of_the_stream(backup: Backup, tmp_path: Path) -> None:
    paths = [b"later/%03d" % number for number in (40, 3, 17, 4, 49, 0)]
    outcome = backup.recover(tmp_path, *paths)
    assert outcome.finished.errors == 0, outcome.lines
    assert len(outcome.wanted) == 1
    for path in paths:
        assert (tmp_path / os.fsdecode(path)).read_bytes() == (backup.root / os.fsdecode(path)).read_bytes()


def test_far_entries_take_a_piece_each(backup: Backup, tmp_path: Path) -> None:
    outcome = backup.recover(tmp_path, b"a/small", b"bulk")
    assert outcome.finished.errors == 0
    offsets = [want.offset for want in outcome.wanted]
    assert offsets == sorted(offsets)
    assert {backup.offset(b"a/small"), backup.offset(b"bulk")} <= set(offsets)


def test_all_names_of_an_inode_become_links_of_one(backup: Backup, tmp_path: Path) -> None:
    outcome = backup.recover(tmp_path, b"later/hard", b"a/small")
    assert outcome.finished.errors == 0, outcome.lines
    assert (tmp_path / "later/hard").samefile(tmp_path / "a/small")
    assert (tmp_path / "a/small").read_bytes() == b"small"


def test_one_object_asked_for_twice_is_two(tmp_path: Path, backup: Backup) -> None:
    where, node = backup.offset(b"empty"), backup.nodes[b"empty"]
    names = [name(tmp_path, b"empty", where, node, below=b"one"), name(tmp_path, b"empty", where, node, below=b"two")]
    outcome = recover_direct(backup.stream, names, env=backup.env)
    assert outcome.finished.errors == 0
    assert (tmp_path / "one").stat().st_nlink == (tmp_path / "two").stat().st_nlink == 1


def test_a_directory_alone_has_its_attributes_and_its_parents_are_plain(backup: Backup, tmp_path: Path) -> None:
    outcome = backup.recover(tmp_path, b"a/b/leaf", b"a/b", recursive=False)
    assert outcome.finished.errors == 0, outcome.lines
    made = (tmp_path / "a/b").stat()
    assert made.st_mtime_ns == 1_500_000_000_987_654_321
    assert stat.S_IMODE(made.st_mode) == 0o750
    assert os.getxattr(tmp_path / "a/b", "user.of") == b"a directory"
    assert (tmp_path / "a").stat().st_mtime_ns > 1_600_000_000_000_000_000  # made on the way, now
    assert (tmp_path / "a/b/leaf").read_bytes() == b"leaf"


@pytest.mark.parametrize("length_is_known", [True, False])
def test_a_directory_comes_with_its_contents(backup: Backup, tmp_path: Path, length_is_known: bool) -> None:
    env = backup.env if length_is_known else [pair for pair in backup.env if pair[0] != b"MOVER_STREAM_BYTES"]
    outcome = backup.recover(tmp_path, b"later", b"a/b", b"empty", env=env)
    assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
    assert set(outcome.status.values()) == {RecoveryStatus.SUCCESSFUL}
    assert sorted(os.listdir(tmp_path / "later")) == sorted(os.listdir(backup.root / "later"))
    for path in backup.root.glob("later/*"):
        assert (tmp_path / "later" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "a/b").stat().st_mtime_ns == 1_500_000_000_987_654_321
    assert (tmp_path / "a/b/leaf").read_bytes() == b"leaf"
    assert (tmp_path / "empty").exists()
    if length_is_known:
        assert all(want.length != ALL_ONES for want in outcome.wanted)
    else:
        assert outcome.wanted[-1].length == ALL_ONES


def test_many_directories_in_one_are_read_in_order(tmp_path: Path) -> None:
    """Their inodes lie between those of the files and not in this part of the stream: nothing is to be looked for."""
    root = tmp_path / "source"
    for number in range(40):
        directory = root / f"all/{number // 10}/{number}"
        directory.mkdir(parents=True)
        for each in range(5):
            (directory / str(each)).write_bytes(b"%d" % each * 15_000)
    backup = Backup(root)
    (tmp_path / "target").mkdir()
    outcome = backup.recover(tmp_path / "target", b"all")
    assert (outcome.finished.reason, outcome.finished.errors, outcome.finished.files) == (SUCCESSFUL, 0, 200)
    starts = [want.offset for want in outcome.wanted]
    # To the head, behind the directory itself, and to the first of the files.
    assert sum(behind < at for at, behind in pairwise(starts)) <= 2
    assert wanted_bytes(outcome) < len(backup.stream) + (64 << 10)


def test_a_directory_without_the_offset_map_takes_the_whole_stream(backup: Backup, tmp_path: Path) -> None:
    names = [name(tmp_path, path, backup.offset(path), backup.nodes[path]) for path in (b"a/b/leaf", b"later")]
    outcome = recover_direct(backup.stream, names, env=backup.env, directories=False)
    assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
    assert outcome.wanted[-1].length == ALL_ONES
    assert b"offset-map-enable is off" in outcome.text()
    assert sorted(os.listdir(tmp_path / "later")) == sorted(os.listdir(backup.root / "later"))
    assert (tmp_path / "a/b/leaf").read_bytes() == b"leaf"


@pytest.mark.parametrize("length_is_known", [True, False])
def test_version_2_names_no_node_and_the_path_decides(backup: Backup, tmp_path: Path, length_is_known: bool) -> None:
    env = backup.env if length_is_known else [pair for pair in backup.env if pair[0] != b"MOVER_STREAM_BYTES"]
    outcome = backup.recover(tmp_path, b"later/007", b"a/b", env=env, with_nodes=False)
    assert outcome.finished.errors == 0, outcome.lines
    assert (tmp_path / "later/007").read_bytes() == b"7" * 500
    assert (tmp_path / "a/b/leaf").read_bytes() == b"leaf"
    if length_is_known:
        wrong = name(tmp_path, b"later/008", backup.offset(b"later/009"))
        absent = name(tmp_path, b"later/none", backup.offset(b"later/010"))
        outcome = recover_direct(backup.stream, [wrong, absent], env=env)
        assert outcome.status == {b"later/008": RecoveryStatus.IO_ERROR, b"later/none": RecoveryStatus.NOT_FOUND}
        assert not (tmp_path / "later/008").exists()


@pytest.mark.parametrize("unknown", [0, ALL_ONES])
def test_one_entry_without_position_makes_all_sequential(backup: Backup, tmp_path: Path, unknown: int) -> None:
    names = [name(tmp_path, b"empty", unknown), name(tmp_path, b"bulk", backup.offset(b"bulk"), backup.nodes[b"bulk"])]
    outcome = recover_direct(backup.stream, names, env=backup.env)
    assert [(want.offset, want.length) for want in outcome.wanted] == [(0, ALL_ONES)]
    assert b"1 of 2 entries have no fh_info" in outcome.text()
    assert outcome.finished.errors == 0
    assert sorted(os.listdir(tmp_path)) == ["bulk", "empty"]


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(st.tuples(st.integers(0, 700), st.sampled_from(["wanted", "other", "left out"])), max_size=40),
    near=st.sampled_from([1024, 20 * 1024, 1 << 20]),
    order=st.sampled_from("<>"),
)
def test_the_contents_of_a_directory_are_found_wherever_they_lie(
    files: list[tuple[int, str]], near: int, order: str
) -> None:
    """Files of so many KiB, in the directory that is wanted or beside it; one of the wanted may not have come."""
    own = Meta(REGULAR, uid=os.geteuid(), gid=os.getegid())
    numbered = [(4 + at, b"f%d" % at, size, fate) for at, (size, fate) in enumerate(files)]
    writer = DumpWriter(order).begin(range(1, 5 + len(files)))
    writer.directory(2, [(3, b"d"), *[(inumber, name) for inumber, name, _, fate in numbered if fate == "other"]])
    writer.directory(3, [(inumber, name) for inumber, name, _, fate in numbered if fate != "other"])
    head_end = len(writer.stream)
    for inumber, name_, size, fate in numbered:
        if fate != "left out":
            writer.content(inumber, own, name_ * 100 + bytes(size * 1024))
    stream = writer.end(10)
    with tempfile.TemporaryDirectory() as target, pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct_trees, "NEAR_BYTES", near)
        env = [(b"MOVER_STREAM_BYTES", b"%d" % len(stream))]
        outcome = recover_direct(stream, [name(target, b"d", writer.offsets[3], 3)], env=env)
        assert outcome.finished.reason == SUCCESSFUL
        wanted = {name_: size for _, name_, size, fate in numbered if fate == "wanted"}
        assert outcome.finished.errors == sum(fate == "left out" for *_, fate in numbered)
        assert {os.fsencode(entry) for entry in os.listdir(os.path.join(target, "d"))} == set(wanted)
        for entry, size in wanted.items():
            with open(os.path.join(os.fsencode(target), b"d", entry), "rb") as file:
                assert file.read() == entry * 100 + bytes(size * 1024)
    if not wanted and outcome.finished.errors == 0:
        assert all(want.offset < head_end + 1024 for want in outcome.wanted)


def test_positions_beyond_what_a_header_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """c_tapea has 32 bits and wraps at 4 TiB, in the midst of this dump; fh_info goes on."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(60):
        (source / f"{number:02}").write_bytes(b"%d" % number * 5000)
    base = (1 << 42) - 200 * 1024
    begin = BackupStream.__init__

    def begin_far_away(stream: BackupStream, producer: Producer) -> None:
        begin(stream, producer)
        stream.slot_start = base

    monkeypatch.setattr(BackupStream, "__init__", begin_far_away)
    outcome = backup_here(request(source, history=HistoryPlan(4, "file")))
    found = [each for kind, body in outcome.posts for each in fh_reader.elements(kind, body)]
    files = [each for each in found if isinstance(each, fh_reader.Attributes) and each.path != b"/"]
    assert len(files) == 60
    assert files[0].fh_info < 1 << 42 < files[-1].fh_info
    for file in files:
        at = file.fh_info - base
        tapea = int.from_bytes(outcome.stream[at + 16 : at + 20], "little")
        inumber = int.from_bytes(outcome.stream[at + 20 : at + 24], "little")
        assert (tapea, inumber) == (file.fh_info // 1024 % 2**32, file.node)

    def read(offset: int, length: int) -> bytes:
        assert offset >= base
        return outcome.stream[offset - base : offset - base + length]

    names = [name(target, file.path[1:], file.fh_info, file.node) for file in files]
    recovered = recover_direct(read, names, env=outcome.finished.env)
    assert recovered.finished.errors == 0, recovered.lines
    for path in source.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_stream_and_any_position_end_in_words(backup: Backup, data: st.DataObject) -> None:
    """Whatever is flipped and wherever the list points: what is told as recovered is what was backed up."""
    paths = [b"a/small", b"a/b/leaf", b"bulk", b"empty", b"link", b"pipe", b"sparse", b"later/007", b"later/hard"]
    stream = bytearray(backup.stream)
    wanted = data.draw(st.lists(st.sampled_from(paths), min_size=1, unique=True))
    for _ in range(data.draw(st.integers(0, 3))):
        near = backup.offset(data.draw(st.sampled_from(wanted)))
        stream[near + data.draw(st.integers(0, 1023))] ^= data.draw(st.integers(1, 255))
    anywhere = st.one_of(
        st.integers(0, len(stream) // 1024 + 2).map(lambda record: record * 1024), st.integers(0, ALL_ONES - 1)
    )
    position = st.one_of(st.none(), anywhere)
    places = {path: data.draw(position) for path in wanted}
    env = data.draw(st.sampled_from([backup.env, backup.env[:2]]))
    with tempfile.TemporaryDirectory() as target:
        names = [
            name(target, path, backup.offset(path) if place is None else place, backup.nodes[path])
            for path, place in places.items()
        ]
        outcome = recover_direct(bytes(stream), names, env=env, overshoots=True)
        assert b"error of its own" not in outcome.text() + outcome.finished.text.encode()
        assert outcome.finished.reason in {SUCCESSFUL, 3, 4}
        for path in wanted:
            made = Path(target) / os.fsdecode(path)
            if outcome.status[path] == RecoveryStatus.SUCCESSFUL and made.is_file() and not made.is_symlink():
                assert made.read_bytes() == (backup.root / os.fsdecode(path)).read_bytes()


# --- what does not lie where the list says ---------------------------------------------------------------------


def wrong_places(backup: Backup) -> dict[str, tuple[int, bytes]]:
    """What -> fh_info, and what is said of it."""
    bulk, leaf = backup.offset(b"bulk"), backup.offset(b"a/b/leaf")
    return {
        "content of a file": (bulk + 10 * 1024, b"no dump header"),
        "another inode": (bulk, b"begins at fh_info"),
        "inside a record": (bulk + 1, b"not the beginning of a record"),
        "a map": (1024, b"no object begins"),
        "an extension": (leaf + 2048, b"no object begins"),
        "behind the end": (len(backup.stream), b"behind the end"),
        "far behind the end": (2**64 - 2048, b"behind the end"),
        "END": (len(backup.stream) - 1024, b"no object begins"),
    }


@pytest.mark.parametrize("what", ["content of a file", "another inode", "inside a record", "a map",
                                  "an extension", "behind the end", "far behind the end", "END"])  # fmt: skip
def test_a_wrong_place_costs_its_own_entry_only(backup: Backup, tmp_path: Path, what: str) -> None:
    where, text = wrong_places(backup)[what]
    names = [
        name(tmp_path, b"small", backup.offset(b"a/small"), backup.nodes[b"a/small"]),
        name(tmp_path, b"wrong", where, backup.nodes[b"empty"]),
        name(tmp_path, b"last", backup.offset(b"sparse"), backup.nodes[b"sparse"]),
    ]
    outcome = recover_direct(backup.stream, names, env=backup.env)
    assert outcome.finished.reason == SUCCESSFUL
    assert outcome.status == {b"small": 0, b"wrong": RecoveryStatus.IO_ERROR, b"last": 0}
    assert text in outcome.text()
    assert sorted(os.listdir(tmp_path)) == ["last", "small"]


def test_another_dump_on_the_tape_is_refused_as_a_whole(backup: Backup, tmp_path: Path) -> None:
    other = backup_here(request(backup.root / "later")).stream
    names = [name(tmp_path, path, backup.offset(path), backup.nodes[path]) for path in (b"empty", b"link")]
    env = [pair for pair in backup.env if pair[0] == b"MOVER_DUMP_ID"]
    outcome = recover_direct(other, names, env=env, overshoots=True)
    assert outcome.finished.reason != SUCCESSFUL
    assert set(outcome.status.values()) == {RecoveryStatus.IO_ERROR}
    assert os.listdir(tmp_path) == []


def test_an_object_of_another_dump_at_the_right_place_is_none_of_ours(tmp_path: Path) -> None:
    nested = DumpWriter().begin(range(1, 4)).directory(2, [(3, b"secret")]).file(3, b"planted").end()
    writer = DumpWriter().begin(range(1, 5)).directory(2, [(3, b"file"), (4, b"other")])
    writer.file(3, nested).file(4, b"other")
    stream = writer.end(3)
    at = stream.index(b"planted") - 1024
    # Without a label that the environment names, date and label of the dump's own beginning count; these have both.
    changed = bytearray(stream)
    changed[676:684] = b"ourlabel"
    total = sum(int.from_bytes(changed[word : word + 4], "little") for word in range(0, 1024, 4))
    checksum = int.from_bytes(changed[28:32], "little")
    changed[28:32] = ((checksum + 84446 - total) % 2**32).to_bytes(4, "little")
    outcome = recover_direct(bytes(changed), [name(tmp_path, b"file", at, 3)])
    assert outcome.status == {b"file": RecoveryStatus.IO_ERROR}
    assert b"of another dump" in outcome.text()
    assert os.listdir(tmp_path) == []


def test_a_header_of_too_many_records_is_none(tmp_path: Path) -> None:
    own = Meta(REGULAR, uid=os.geteuid(), gid=os.getegid())
    writer = DumpWriter().begin(range(1, 5)).directory(2, [(3, b"giant"), (4, b"good")])
    at = writer.header(2, inumber=3, meta=own, size=1 << 40, addr=b"\1" * 512, count=1 << 30)
    writer.content(4, own, b"good")
    stream = writer.end(3)
    names = [name(tmp_path, b"giant", at, 3), name(tmp_path, b"good", writer.offsets[4], 4)]
    outcome = recover_direct(stream, names)
    assert outcome.status == {b"giant": RecoveryStatus.IO_ERROR, b"good": 0}
    assert os.listdir(tmp_path) == ["good"]


def test_a_foreign_dump_big_endian_and_without_environment(tmp_path: Path) -> None:
    own = Meta(REGULAR, uid=os.geteuid(), gid=os.getegid())
    writer = DumpWriter(">").begin(range(1, 6)).directory(2, [(3, b"one"), (4, b"two"), (5, b"three")])
    writer.content(3, own, b"1" * 700_000).content(4, own, b"2")
    writer.extension(4, own, attribute_blob([(1, b"mark", b"yes")]))
    writer.content(5, own, b"3")
    stream = writer.end()
    names = [name(tmp_path, path, writer.offsets[node], node) for path, node in ((b"two", 4), (b"one", 3))]
    outcome = recover_direct(stream, names)
    assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
    assert (tmp_path / "one").read_bytes() == b"1" * 700_000
    assert os.getxattr(tmp_path / "two", "user.mark") == b"yes"
    assert outcome.wanted[0].offset == 0


def test_a_damaged_continuation_fails_its_own_entry(backup: Backup, tmp_path: Path) -> None:
    stream = bytearray(backup.stream)
    continued = backup.offset(b"bulk") + 1024 + 512 * 1024
    stream[continued + 100] ^= 1
    names = [name(tmp_path, path, backup.offset(path), backup.nodes[path]) for path in (b"bulk", b"empty")]
    (tmp_path / "bulk").write_bytes(b"the older one stays")
    outcome = recover_direct(bytes(stream), names, env=backup.env)
    assert outcome.status == {b"bulk": RecoveryStatus.IO_ERROR, b"empty": 0}
    assert (tmp_path / "bulk").read_bytes() == b"the older one stays"
    assert sorted(os.listdir(tmp_path)) == ["bulk", "empty"]


def test_a_stream_that_ends_fails_what_was_not_reached(backup: Backup, tmp_path: Path) -> None:
    cut = backup.stream[: backup.offset(b"bulk") + 100_000]
    paths = [b"a/small", b"bulk", b"sparse"]
    names = [name(tmp_path, path, backup.offset(path), backup.nodes[path]) for path in paths]
    outcome = recover_direct(cut, names, env=backup.env, overshoots=True)
    assert outcome.finished.reason == 4
    reached = {path: backup.offset(path) < backup.offset(b"bulk") for path in paths}
    assert {path: status == 0 for path, status in outcome.status.items()} == reached


@pytest.mark.parametrize("with_nodes", [True, False])
@pytest.mark.parametrize("kilobytes", [0, 1, 4])
def test_a_stream_that_ends_in_its_head_fails_what_needs_the_head(
    backup: Backup, tmp_path: Path, kilobytes: int, *, with_nodes: bool
) -> None:
    cut = backup.stream[: kilobytes * 1024]

    def read(offset: int, length: int) -> bytes:
        whole = with_nodes and offset >= backup.offset(b"later")  # where the directory itself lies
        return (backup.stream if whole else cut)[offset : offset + length]

    node = backup.nodes[b"later"] if with_nodes else ALL_ONES
    names = [name(tmp_path, b"later", backup.offset(b"later"), node)]
    outcome = recover_direct(read, names, env=backup.env, overshoots=True)
    assert outcome.finished.reason == 4
    assert outcome.status == {b"later": RecoveryStatus.IO_ERROR}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [b"many", b"-1", b"9" * 30])
def test_an_impossible_length_of_the_stream_is_refused(backup: Backup, tmp_path: Path, value: bytes) -> None:
    with pytest.raises(WasRefused, match="MOVER_STREAM_BYTES"):
        backup.recover(tmp_path, b"empty", env=[(b"MOVER_STREAM_BYTES", value)])


def test_a_name_in_the_place_of_its_volume_fails(backup: Backup, tmp_path: Path) -> None:
    entry = name(tmp_path, b"empty", backup.offset(b"empty"), backup.nodes[b"empty"], below=b"")
    outcome = recover_direct(backup.stream, [entry], env=backup.env)
    assert outcome.status == {b"empty": RecoveryStatus.PATH_EXISTS}
