"""Direct access to tar streams: each member by its own piece, directories as one piece, nothing believed blindly."""

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mover.data import tar_objects
from mover.data.codes import RecoveryStatus
from mover.data.tar_format import place_numbers
from mover.dma.compare import compare_trees
from mover.workers.data_messages import HistoryPlan, Pairs, RecoverName
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.direct_runner import make_sources, name, recover_direct
from tests.data.recover_runner import ALL_ONES, Outcome
from tests.data.tar_writer import TarWriter
from tests.support.trees import make_tree

SUCCESSFUL = 1
BULK = 3_000_000
LENGTH = b"MOVER_STREAM_BYTES"
SMALL = {b"a/small", b"empty", b"link", b"pipe"}


class Backup:
    """A tar stream of a tree, and the places that its history tells."""

    def __init__(self, root: Path) -> None:
        self.root = root
        outcome = backup_here(request(root, butype="tar", history=HistoryPlan(4, "file")))
        self.stream = outcome.stream
        self.env: Pairs = outcome.finished.env
        told = [each for kind, body in outcome.posts for each in fh_reader.elements(kind, body)]
        self.places = {each.path[1:]: each.fh_info for each in told if isinstance(each, fh_reader.Attributes)}

    def name(self, target: Path | str, path: bytes, below: bytes | None = None) -> RecoverName:
        return name(target, path, self.places[path], below=below)

    def recover(
        self, target: Path, *paths: bytes, env: Pairs | None = None, recursive: bool = True, piece_bytes: int = 65536
    ) -> Outcome:
        env = self.env if env is None else env
        names = [self.name(target, path) for path in paths]
        return recover_direct(self.stream, names, env=env, recursive=recursive, piece_bytes=piece_bytes, butype="tar")

    def without(self, *variables: bytes) -> Pairs:
        return [pair for pair in self.env if pair[0] not in variables]


def good(outcome: Outcome) -> bool:
    finished = outcome.finished
    assert (finished.reason, finished.errors, set(outcome.status.values())) == (SUCCESSFUL, 0, {0}), outcome.lines
    return True


def wanted_bytes(outcome: Outcome) -> int:
    return sum(want.length for want in outcome.wanted)


def same(tree: Path, other: Path) -> list[str]:
    return [str(each) for each in compare_trees(tree, other).differences]


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Backup:
    root = tmp_path_factory.mktemp("source")
    make_sources(root, BULK)
    (root / "later/deep/er").mkdir(parents=True)
    for number in range(50):
        (root / f"later/{number:03}").write_bytes(b"%d" % number * 500)
        (root / f"later/deep/{number:03}").write_bytes(b"%d" % number * 90)
    (root / "later/deep/er/last").write_bytes(b"last" * 3000)
    os.link(root / "a/small", root / "later/hard")
    os.link(root / "later/000", root / "later/deep/hard")
    os.link(root / "later/000", root / "a/b/hard")
    (root / ("long" * 60)).write_bytes(b"a path in a record")
    (root / "link").symlink_to("a/small")
    os.mkfifo(root / "pipe", 0o600)
    with (root / "sparse").open("wb") as file:
        for at in (1_000_000, 3_000_000, 5_000_000):
            file.seek(at)
            file.write(b"data")
    os.utime(root / "a/b", ns=(1_500_000_000_123_456_789, 1_500_000_000_987_654_321))
    (root / "a/b").chmod(0o750)
    return Backup(root)


def test_each_kind_of_object_comes_by_itself(backup: Backup, tmp_path: Path) -> None:
    paths = [*SMALL, b"a/b/leaf", b"bulk", b"sparse", b"long" * 60]
    for path in paths:
        outcome = backup.recover(tmp_path, path)
        assert good(outcome)
        assert wanted_bytes(outcome) <= 48 * 1024 + (BULK + 8192 if path == b"bulk" else 0)
    for path in paths:
        ours, theirs = tmp_path / os.fsdecode(path), backup.root / os.fsdecode(path)
        assert ours.lstat().st_mode == theirs.lstat().st_mode
        assert ours.lstat().st_mtime_ns == theirs.lstat().st_mtime_ns
        if theirs.is_file():
            assert ours.read_bytes() == theirs.read_bytes()
    assert os.getxattr(tmp_path / "a/b/leaf", "user.note") == b"n" * 3000
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 100_000


@pytest.mark.parametrize("piece_bytes", [64 * 1024, 1000, 512, 7])
@pytest.mark.parametrize("told", [True, False], ids=["length known", "length unknown"])
def test_pieces_of_any_length(backup: Backup, tmp_path: Path, piece_bytes: int, *, told: bool) -> None:
    env = backup.env if told else backup.without(LENGTH)
    paths = [b"sparse", b"a/b/leaf", b"empty", b"long" * 60]
    assert good(backup.recover(tmp_path, *paths, env=env, piece_bytes=piece_bytes))
    for path in map(os.fsdecode, paths):
        assert (tmp_path / path).read_bytes() == (backup.root / path).read_bytes()


def test_a_large_file_takes_few_reads(backup: Backup, tmp_path: Path) -> None:
    assert len(backup.recover(tmp_path, b"bulk").wanted) <= 3
    outcome = backup.recover(tmp_path, b"bulk", env=backup.without(LENGTH))
    assert len(outcome.wanted) <= 3
    assert (tmp_path / "bulk").read_bytes() == (backup.root / "bulk").read_bytes()


def test_near_entries_are_read_in_one_piece_in_the_order_of_the_stream(backup: Backup, tmp_path: Path) -> None:
    paths = [b"later/%03d" % number for number in (40, 3, 17, 4, 49, 0)]
    outcome = backup.recover(tmp_path, *paths)
    assert good(outcome)
    assert len(outcome.wanted) == 1
    for path in map(os.fsdecode, paths):
        assert (tmp_path / path).read_bytes() == (backup.root / path).read_bytes()


@pytest.mark.parametrize("name_the_dump", [True, False])
def test_without_an_id_the_beginning_tells_which_stream_it_is(
    backup: Backup, tmp_path: Path, *, name_the_dump: bool
) -> None:
    env = backup.env if name_the_dump else backup.without(b"MOVER_DUMP_ID")
    outcome = backup.recover(tmp_path, b"a/b/leaf", env=env)
    assert good(outcome)
    assert (outcome.wanted[0].offset == 0) == (not name_the_dump)


def test_all_names_of_an_object_become_links_of_one(backup: Backup, tmp_path: Path) -> None:
    assert backup.places[b"later/hard"] == backup.places[b"a/small"]
    assert good(backup.recover(tmp_path, b"later/hard", b"a/small"))
    assert (tmp_path / "later/hard").samefile(tmp_path / "a/small")
    assert (tmp_path / "a/small").read_bytes() == b"small"


def test_a_further_name_alone(backup: Backup, tmp_path: Path) -> None:
    assert good(backup.recover(tmp_path, b"later/hard"))
    assert (tmp_path / "later/hard").read_bytes() == b"small"
    assert (tmp_path / "later/hard").stat().st_nlink == 1


def test_one_object_asked_for_twice_is_two(backup: Backup, tmp_path: Path) -> None:
    names = [backup.name(tmp_path, b"empty", below=b"one"), backup.name(tmp_path, b"empty", below=b"two")]
    assert good(recover_direct(backup.stream, names, env=backup.env, butype="tar"))
    assert (tmp_path / "one").stat().st_nlink == (tmp_path / "two").stat().st_nlink == 1


def test_a_directory_alone_has_its_attributes_and_its_parents_are_plain(backup: Backup, tmp_path: Path) -> None:
    assert good(backup.recover(tmp_path, b"a/b/leaf", b"a/b", recursive=False))
    made = (tmp_path / "a/b").stat()
    assert made.st_mtime_ns == 1_500_000_000_987_654_321
    assert stat.S_IMODE(made.st_mode) == 0o750
    assert os.getxattr(tmp_path / "a/b", "user.of") == b"a directory"
    assert (tmp_path / "a").stat().st_mtime_ns > 1_600_000_000_000_000_000  # made on the way, now
    assert os.listdir(tmp_path / "a/b") == ["leaf"]


def test_the_root_alone_lies_at_the_beginning(backup: Backup, tmp_path: Path) -> None:
    assert backup.places[b""] == 0
    entry = backup.name(tmp_path, b"", below=b"root")
    outcome = recover_direct(backup.stream, [entry], env=backup.env, recursive=False, butype="tar")
    assert good(outcome)
    assert os.listdir(tmp_path / "root") == []
    assert wanted_bytes(outcome) <= 32 * 1024


def test_a_directory_comes_with_its_contents_and_no_more_is_read(backup: Backup, tmp_path: Path) -> None:
    outcome = backup.recover(tmp_path, b"later/deep", b"empty")
    assert good(outcome)
    differences = same(backup.root / "later/deep", tmp_path / "later/deep")
    assert differences == []
    assert (tmp_path / "later/deep/hard").read_bytes() == (backup.root / "later/000").read_bytes()
    assert wanted_bytes(outcome) < 600_000  # of a stream with three million bytes of other content
    assert all(want.length != ALL_ONES for want in outcome.wanted)


def test_a_directory_without_the_offset_map_takes_the_whole_stream(backup: Backup, tmp_path: Path) -> None:
    names = [backup.name(tmp_path, path) for path in (b"a/b/leaf", b"later/deep")]
    outcome = recover_direct(backup.stream, names, env=backup.env, directories=False, butype="tar")
    assert good(outcome)
    assert outcome.wanted[-1].length == ALL_ONES
    assert (tmp_path / "later/deep/er/last").read_bytes() == b"last" * 3000
    assert (tmp_path / "a/b/leaf").read_bytes() == b"leaf"


@pytest.mark.parametrize("told", [True, False], ids=["length known", "length unknown"])
def test_directories_side_by_side_and_within_each_other(backup: Backup, tmp_path: Path, *, told: bool) -> None:
    env = backup.env if told else backup.without(LENGTH)
    outcome = backup.recover(tmp_path, b"later/deep", b"a", b"later", b"empty", env=env)
    assert good(outcome)
    for path in ("a", "later"):
        assert same(backup.root / path, tmp_path / path) == []
    assert (tmp_path / "a/small").samefile(tmp_path / "later/hard")
    assert (tmp_path / "later/000").samefile(tmp_path / "a/b/hard")
    assert (outcome.wanted[-1].length == ALL_ONES) == (not told)


def test_a_further_name_whose_first_one_is_told_to_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that place lies a member, but of another file."""
    tree, place = tmp_path / "tree", tmp_path / "place"
    for path in ("one", "two"):
        (tree / path).mkdir(parents=True)
        (tree / path / "alone").write_text(path)
    (tree / "one/name").write_text("both")
    os.link(tree / "one/name", tree / "two/name")
    place.mkdir()
    right = Backup(tree)
    first = min((right.places[path], path) for path in (b"one/alone", b"two/alone"))
    second = b"one" if first[1] == b"two/alone" else b"two"
    monkeypatch.setattr(tar_objects, "place_numbers", lambda _: place_numbers(first[0]))
    outcome = Backup(tree).recover(place, second)
    assert (outcome.finished.errors, outcome.status) == (1, {second: RecoveryStatus.IO_ERROR})
    assert b"its content was not found" in outcome.text()
    assert os.listdir(place / os.fsdecode(second)) == ["alone"]


def test_a_directory_at_two_places(backup: Backup, tmp_path: Path) -> None:
    names = [backup.name(tmp_path, b"later", below=b"one"), backup.name(tmp_path, b"later", below=b"x/two")]
    assert good(recover_direct(backup.stream, names, env=backup.env, butype="tar"))
    for place in ("one", "x/two"):
        assert same(backup.root / "later", tmp_path / place) == []
    for path in ("hard", "deep/hard"):
        assert not (tmp_path / "one" / path).samefile(tmp_path / "x/two" / path)


def test_every_entry_of_a_tree_one_by_one(tmp_path: Path) -> None:
    """As a DMA asks that knows nothing but the history: a list of all names, RECURSIVE=n."""
    make_tree(tmp_path / "tree", wide=60, depth=5, huge_sparse=False, large_xattrs=True, sub_microsecond=True)
    backup = Backup(tmp_path / "tree")
    target = tmp_path / "target"
    target.mkdir()
    outcome = backup.recover(target, *backup.places, recursive=False)
    assert good(outcome)
    different = compare_trees(tmp_path / "tree", target).differences
    assert [str(each) for each in different if each.path != b"special/socket"] == []


def test_every_directory_of_a_tree_with_all_it_holds(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", wide=60, depth=5, huge_sparse=False, large_xattrs=True, sub_microsecond=True)
    backup = Backup(tmp_path / "tree")
    target = tmp_path / "target"
    target.mkdir()
    tops = [path for path in backup.places if path and b"/" not in path]
    assert good(backup.recover(target, *tops))
    different = compare_trees(tmp_path / "tree", target).differences
    assert [str(each) for each in different if each.path not in {b".", b"special/socket"}] == []


def test_everything_is_read_in_order(backup: Backup, tmp_path: Path) -> None:
    entry = backup.name(tmp_path, b"", below=b"all")
    outcome = recover_direct(backup.stream, [entry, backup.name(tmp_path, b"empty")], env=backup.env, butype="tar")
    assert good(outcome)
    assert [(want.offset, want.length) for want in outcome.wanted] == [(0, ALL_ONES)]
    assert b"everything is wanted" in outcome.text()
    assert same(backup.root, tmp_path / "all") == []


@pytest.mark.parametrize("unknown", [0, ALL_ONES])
def test_one_entry_without_position_makes_all_sequential(backup: Backup, tmp_path: Path, unknown: int) -> None:
    names = [name(tmp_path, b"empty", unknown), backup.name(tmp_path, b"link")]
    outcome = recover_direct(backup.stream, names, env=backup.env, butype="tar")
    assert good(outcome)
    assert [(want.offset, want.length) for want in outcome.wanted] == [(0, ALL_ONES)]
    assert b"1 of 2 entries have no fh_info" in outcome.text()
    assert sorted(os.listdir(tmp_path)) == ["empty", "link"]


def test_a_stream_of_another_program_is_read_in_order(tmp_path: Path) -> None:
    writer = TarWriter().directory(b"d/").file(b"d/one", b"1" * 5000).file(b"two", b"2")
    names = [name(tmp_path, b"two", 7168), name(tmp_path, b"d", 512)]
    outcome = recover_direct(writer.end(), names, butype="tar")
    assert good(outcome)
    assert b"of another program" in outcome.text()
    assert [(want.offset, want.length) for want in outcome.wanted][-1] == (0, ALL_ONES)
    assert (tmp_path / "d/one").read_bytes() == b"1" * 5000
    assert (tmp_path / "two").read_bytes() == b"2"


# --- what does not lie where the list says ---------------------------------------------------------------------


def wrong_places(backup: Backup) -> dict[str, tuple[int, bytes]]:
    """What -> fh_info, and what is said of it."""
    bulk, leaf = backup.places[b"bulk"], backup.places[b"a/b/leaf"]
    return {
        "content of a file": (bulk + 10 * 1024, b"no header"),
        "another object": (bulk, b"lies 'bulk'"),
        "a directory": (backup.places[b"later"], b"lies 'later'"),
        "inside a block": (bulk + 1, b"not the beginning of a block"),
        "records": (leaf + 512, b"no header"),
        "behind the end": (len(backup.stream), b"behind the end"),
        "far behind the end": (2**64 - 2048, b"behind the end"),
        "the end": (len(backup.stream) - 10240, b""),
    }


@pytest.mark.parametrize(
    "what",
    ["content of a file", "another object", "a directory", "inside a block", "records", "behind the end",
     "far behind the end", "the end"],
)  # fmt: skip
def test_a_wrong_place_costs_its_own_entry_only(backup: Backup, tmp_path: Path, what: str) -> None:
    where, text = wrong_places(backup)[what]
    names = [
        backup.name(tmp_path, b"a/small"), name(tmp_path, b"wrong", where), backup.name(tmp_path, b"sparse"),
    ]  # fmt: skip
    outcome = recover_direct(backup.stream, names, env=backup.env, butype="tar")
    assert outcome.finished.reason == SUCCESSFUL
    assert outcome.status == {b"a/small": 0, b"wrong": RecoveryStatus.IO_ERROR, b"sparse": 0}
    assert text in outcome.text()
    assert sorted(os.listdir(tmp_path)) == ["a", "sparse"]


def test_another_backup_on_the_tape_is_refused_as_a_whole(backup: Backup, tmp_path: Path) -> None:
    other = backup_here(request(backup.root / "later", butype="tar")).stream
    names = [backup.name(tmp_path, path) for path in (b"empty", b"link")]
    outcome = recover_direct(other, names, env=backup.without(LENGTH), overshoots=True, butype="tar")
    assert outcome.finished.reason != SUCCESSFUL
    assert set(outcome.status.values()) == {RecoveryStatus.IO_ERROR}
    assert os.listdir(tmp_path) == []


def test_a_member_of_a_stream_within_a_file_is_none_of_ours(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_bytes(b"inner")
    inner = Backup(source)
    (source / "archive").write_bytes(inner.stream)
    outer = Backup(source)
    at = outer.stream.index(inner.stream) + inner.places[b"file"]
    for env in (outer.env, outer.without(b"MOVER_DUMP_ID")):
        outcome = recover_direct(outer.stream, [name(target, b"file", at)], env=env, butype="tar")
        assert outcome.status == {b"file": RecoveryStatus.IO_ERROR}
        assert b"another archive" in outcome.text()
    assert os.listdir(target) == []


def test_damage_within_a_directory_fails_it_and_costs_no_more(backup: Backup, tmp_path: Path) -> None:
    stream = bytearray(backup.stream)
    stream[backup.places[b"later/007"] + 30] ^= 1
    names = [backup.name(tmp_path, b"later"), backup.name(tmp_path, b"empty")]
    outcome = recover_direct(bytes(stream), names, env=backup.env, butype="tar")
    assert outcome.status == {b"later": RecoveryStatus.IO_ERROR, b"empty": 0}
    made = {path.name for path in (tmp_path / "later").iterdir()}
    assert made == {path.name for path in (backup.root / "later").iterdir()} - {"007"}


def test_a_lost_first_name_fails_the_further_ones(backup: Backup, tmp_path: Path) -> None:
    stream = bytearray(backup.stream)
    stream[backup.places[b"a/small"] + 30] ^= 1
    entry = backup.name(tmp_path, b"later")
    outcome = recover_direct(bytes(stream), [entry], env=backup.env, butype="tar")
    assert outcome.finished.reason == SUCCESSFUL
    assert outcome.status == {b"later": RecoveryStatus.IO_ERROR}
    assert not (tmp_path / "later/hard").exists()
    assert (tmp_path / "later/049").exists()


def test_a_stream_that_ends_fails_what_was_not_reached(backup: Backup, tmp_path: Path) -> None:
    cut = backup.stream[: backup.places[b"bulk"] + 100_000]
    paths = [b"a/small", b"bulk", b"sparse", b"later"]
    names = [backup.name(tmp_path, path) for path in paths]
    outcome = recover_direct(cut, names, env=backup.env, overshoots=True, butype="tar")
    assert outcome.finished.reason == 4
    reached = {path: backup.places[path] < backup.places[b"bulk"] for path in paths}
    assert {path: status == 0 for path, status in outcome.status.items()} == reached


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_stream_and_any_position_end_in_words(backup: Backup, data: st.DataObject) -> None:
    """Whatever is flipped and wherever the list points: what is told as recovered is what was backed up."""
    paths = [b"a/small", b"a/b/leaf", b"bulk", b"empty", b"link", b"pipe", b"sparse", b"later/007", b"later/hard",
             b"later/deep", b"a"]  # fmt: skip
    stream = bytearray(backup.stream)
    wanted = data.draw(st.lists(st.sampled_from(paths), min_size=1, unique=True))
    for _ in range(data.draw(st.integers(0, 3))):
        near = backup.places[data.draw(st.sampled_from(wanted))]
        at = data.draw(st.one_of(st.integers(0, 511), st.integers(1024, 1535)))  # where a checksum tells
        stream[near + at] ^= data.draw(st.integers(1, 255))
    anywhere = st.one_of(
        st.integers(0, len(stream) // 512 + 2).map(lambda block: block * 512), st.integers(0, ALL_ONES - 1)
    )
    position = st.one_of(st.none(), anywhere)
    places = {path: data.draw(position) for path in wanted}
    env = data.draw(st.sampled_from([backup.env, backup.without(LENGTH)]))
    several = {backup.places[path] for path in (b"a/small", b"later/000")}
    with tempfile.TemporaryDirectory() as target:
        names = [name(target, path, backup.places[path] if place is None else place) for path, place in places.items()]
        outcome = recover_direct(bytes(stream), names, env=env, overshoots=True, butype="tar")
        assert b"error of its own" not in outcome.text() + outcome.finished.text.encode()
        assert outcome.finished.reason in {SUCCESSFUL, 3, 4}
        for path in wanted:
            made = Path(target) / os.fsdecode(path)
            if places[path] in several or outcome.status[path] != RecoveryStatus.SUCCESSFUL:
                continue
            if made.is_file() and not made.is_symlink():
                assert made.read_bytes() == (backup.root / os.fsdecode(path)).read_bytes()
