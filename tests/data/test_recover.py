"""Recover in a real worker: kinds of entries, names and targets, and what exists already."""

import os
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mover.workers.data_messages import WantData
from tests.data.dump_writer import DumpWriter, Meta, attribute_blob
from tests.data.recover_runner import ALL_ONES, WasRefused, name, recover, recover_here
from tests.data.small_stream import ALL, LARGE, REGULAR, check_small_tree, listing, own, small_stream
from tests.support.passage import let_others_pass
from tests.support.trees import posix_acl

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("lengths", "slot_bytes"), [(1 << 20, 1 << 20), (10_240, 1 << 16), ([1000, 333, 60_000, 1], 1 << 16), (512, 512)]
)
def test_a_tree_in_any_cut(tmp_path: Path, order: str, lengths: int | Sequence[int], slot_bytes: int) -> None:
    outcome = recover(small_stream(order), [name(tmp_path)], lengths=lengths, slot_bytes=slot_bytes)
    check_small_tree(tmp_path)
    assert outcome.wanted == [WantData(0, ALL_ONES)]
    assert outcome.status == {b"": 0}
    finished = outcome.finished
    assert (finished.reason, finished.directories, finished.files, finished.errors) == (1, 3, 10, 0)
    assert outcome.stderr == b""


def test_without_an_end_in_band_the_end_header_is_enough(tmp_path: Path) -> None:
    outcome = recover(small_stream() + bytes(100_000), [name(tmp_path)], end=None)
    check_small_tree(tmp_path)
    assert outcome.finished.reason == 1


def test_single_names_and_new_places(tmp_path: Path) -> None:
    names = [
        name(tmp_path, b"dir/inner", below=b"a/b/renamed"),
        name(tmp_path, b"dir/deep", below=b"deep.old"),
        name(tmp_path, b"link", below=b"link", reported=b"/link"),
        name(tmp_path, b"nowhere", below=b"nowhere"),
        name(tmp_path, b"top/below", below=b"x"),
    ]
    outcome = recover(small_stream(), names)
    assert listing(tmp_path) == {"a", "a/b", "a/b/renamed", "deep.old", "deep.old/leaf", "link"}
    assert outcome.status == {b"dir/inner": 0, b"dir/deep": 0, b"/link": 0, b"nowhere": 2, b"top/below": 2}
    assert outcome.finished.reason == 1
    assert outcome.finished.errors == 2


def test_reading_stops_when_everything_wanted_is_there(tmp_path: Path) -> None:
    stream = small_stream()
    broken = stream[: stream.index(b"linked") + 3 * 1024]  # the stream never gets to its end
    outcome = recover(broken, [name(tmp_path, b"top", below=b"top")], end=None)
    assert outcome.finished.reason == 1
    assert listing(tmp_path) == {"top"}


def test_without_recursion_a_directory_comes_alone(tmp_path: Path) -> None:
    outcome = recover(small_stream(), [name(tmp_path, b"dir", below=b"dir")], recursive=False)
    assert listing(tmp_path) == {"dir"}
    assert stat.S_IMODE((tmp_path / "dir").stat().st_mode) == 0o2750
    assert outcome.status == {b"dir": 0}


def test_hard_links_between_entries_of_the_list(tmp_path: Path) -> None:
    names = [name(tmp_path, b"dir/hard", below=b"x/one"), name(tmp_path, b"hard", below=b"two")]
    assert recover(small_stream(), names).finished.files == 2
    assert (tmp_path / "x/one").samefile(tmp_path / "two")


def test_one_name_wanted_twice_becomes_two_files(tmp_path: Path) -> None:
    wanted = [b"top", b"sparse", b"link", b"fifo"]
    names = [name(tmp_path, one, below=place + one) for one in wanted for place in (b"1-", b"2-")]
    outcome = recover(small_stream(), names)
    assert outcome.finished.files == 8
    for one in ("top", "sparse"):
        first, second = tmp_path / f"1-{one}", tmp_path / f"2-{one}"
        assert not first.samefile(second)
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_mtime_ns == second.stat().st_mtime_ns
        assert first.stat().st_mode == second.stat().st_mode
        assert second.stat().st_blocks * 512 < 100_000
    assert os.listxattr(tmp_path / "2-sparse") == os.listxattr(tmp_path / "1-sparse")
    assert os.readlink(tmp_path / "2-link") == "dir/inner"


def test_a_directory_and_a_file_in_it_may_both_be_listed(tmp_path: Path) -> None:
    names = [name(tmp_path, b"dir", below=b"dir"), name(tmp_path, b"dir/inner", below=b"dir/inner")]
    outcome = recover(small_stream(), names)
    assert outcome.status == {b"dir": 0, b"dir/inner": 0}
    assert outcome.finished.errors == 0
    assert listing(tmp_path) == {"dir", "dir/hard", "dir/inner", "dir/deep", "dir/deep/leaf"}


def test_what_exists_is_replaced_or_merged_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    target = tmp_path / "target"
    target.mkdir()
    (target / "top").symlink_to(outside / "kept")
    (target / "hard").write_text("old")
    (target / "link").write_text("old")
    (target / "fifo").write_text("old")
    (target / "dir").mkdir()
    (target / "dir/stays").write_text("stays")
    (target / "dir/inner").write_text("old")
    outcome = recover(small_stream(), [name(target)])
    assert outcome.finished.errors == 0
    times = (target / "dir").stat()
    (target / "dir/stays").unlink()
    os.utime(target / "dir", ns=(times.st_atime_ns, times.st_mtime_ns))
    check_small_tree(target)
    assert (outside / "kept").read_text() == "kept"


def test_type_conflicts_are_errors_and_the_rest_goes_on(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "dir").symlink_to(outside)
    (target / "top").mkdir()
    outcome = recover(small_stream(), [name(target), name(target, b"top", below=b"top2")])
    assert list(outside.iterdir()) == []
    assert (target / "top").is_dir()
    assert (target / "large").read_bytes() == LARGE
    assert outcome.finished.reason == 1
    assert outcome.status == {b"": 7, b"top": 0}
    assert b"/dir: exists and is no directory" in outcome.text()
    assert b"/top: a directory of this name exists" in outcome.text()


def test_nothing_goes_through_a_symbolic_link_on_the_way_to_the_target(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "way").symlink_to(outside)
    outcome = recover(small_stream(), [name(volume, b"top", below=b"way/top"), name(volume, b"dir", below=b"way/dir")])
    assert list(outside.iterdir()) == []
    assert set(outcome.status.values()) == {7}


def test_inherited_acls_and_groups_do_not_stay(tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", posix_acl(1000, 7, 5))
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    parts = [b"top", b"fifo", b"link"]
    outcome = recover(
        small_stream(), [name(tmp_path, below=b"new"), *(name(tmp_path, part, below=part) for part in parts)]
    )
    assert outcome.finished.errors == 0
    check_small_tree(tmp_path / "new")
    for path in ("new", "new/dir", "new/top", "new/dir/inner", "new/fifo", "top", "fifo"):
        assert [item for item in os.listxattr(tmp_path / path) if "acl" in item] == [], path


def test_refused_before_it_begins(tmp_path: Path) -> None:
    stream = small_stream()
    for names, text in [
        (
            [name(tmp_path / "gone")],
            f"the destination volume {tmp_path}/gone cannot be opened: No such file or directory (ENOENT)",
        ),
        ([name(tmp_path, b"a/../b")], "recover list: 'a/../b' holds a component that cannot be used"),
        ([name(tmp_path, below=b"..")], "recover list: '..' holds a component that cannot be used"),
        ([], "the recover list is empty"),
    ]:
        with pytest.raises(WasRefused) as caught:
            recover(stream, names)
        assert caught.value.refused.error == 9
        assert caught.value.refused.text == text
    with pytest.raises(WasRefused, match="backup type 'cpio' is not known"):
        recover(stream, [name(tmp_path)], butype="cpio")


def test_an_incremental_dump_brings_what_it_contains(tmp_path: Path) -> None:
    writer = DumpWriter(level=1).begin([2, 3])
    writer.directory(2, [(3, b"changed"), (4, b"unchanged"), (5, b"old-directory")], kinds={5: 4})
    writer.file(3, b"new")
    outcome = recover_here(writer.end(), [name(tmp_path), name(tmp_path, b"unchanged", below=b"u")])
    assert listing(tmp_path) == {"changed"}
    assert outcome.status == {b"": 0, b"unchanged": 2}


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_object_of_which_only_the_attributes_are_in_the_dump_keeps_its_content(tmp_path: Path, order: str) -> None:
    (tmp_path / "changed").write_text("old")
    (tmp_path / "chmod").write_text("whole")
    writer = DumpWriter(order, level=1).begin([2, 3, 4])
    writer.directory(2, [(3, b"changed"), (4, b"chmod")], meta=own(0o40755))
    writer.content(3, own(REGULAR), b"new")
    writer.header(2, inumber=4, meta=own(REGULAR), flags=0x100)  # as dump -m makes it
    outcome = recover(writer.end(), [name(tmp_path), name(tmp_path, b"chmod", below=b"elsewhere")])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"changed": "new", "chmod": "whole"}
    assert outcome.text().count(b"/chmod: only its attributes are in the dump, not its content: nothing was made") == 1
    assert outcome.status == {b"": 5, b"chmod": 5}
    assert outcome.finished.errors == 2


def test_the_number_of_lines_is_bounded(tmp_path: Path) -> None:
    names = [(number, b"file-%d" % number) for number in range(3, 1503)]
    writer = DumpWriter().begin(range(2, 1503))
    writer.directory(2, names, meta=own(0o40755))
    outcome = recover_here(writer.end(), [name(tmp_path)])
    assert outcome.finished.errors == 1500
    assert len(outcome.lines) == 1002
    assert outcome.lines[-2:] == [
        (3, b"500 further lines about single objects not sent"),
        (0, b"1 directory and 0 files recovered, 1500 errors"),
    ]


@root_only
@pytest.mark.root
def test_as_an_ordinary_user_owners_and_devices_are_left_out_once_named(tmp_path: Path) -> None:
    writer = DumpWriter().begin(range(2, 8))
    writer.directory(2, [(3, b"a"), (4, b"b"), (5, b"null"), (6, b"secret"), (7, b"mine")])
    writer.content(3, Meta(stat.S_IFREG | 0o4755, 0, 0), b"a")
    writer.content(4, Meta(REGULAR, 1, 1), b"b")
    writer.content(5, Meta(stat.S_IFCHR | 0o666, device=0x103), b"")
    writer.content(6, Meta(REGULAR, 65534, 65534), b"")
    writer.extension(6, Meta(REGULAR), attribute_blob([(4, b"x", b"1"), (6, b"y", b"2")]))
    writer.content(7, Meta(stat.S_IFREG | 0o4755, 65534, 65534), b"mine")
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    let_others_pass(tmp_path)
    outcome = recover(writer.end(), [name(volume, below=b"out")], user=65534)
    out = volume / "out"
    assert listing(out) == {"a", "b", "secret", "mine"}
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o755  # no setuid for another owner
    assert stat.S_IMODE((out / "mine").stat().st_mode) == 0o4755
    assert outcome.finished.errors == 0
    assert outcome.status == {b"": 0}
    assert outcome.text().count(b"owner left out") == 2  # the first one, and the sum
    assert b"owner left out 3 times" in outcome.text()
    assert b"device nodes left out 1 time" in outcome.text()
    assert b"extended attributes trusted.* left out" in outcome.text()


@root_only
@pytest.mark.root
def test_devices_sockets_and_owners_as_root(tmp_path: Path) -> None:
    writer = DumpWriter().begin(range(2, 6))
    writer.directory(2, [(3, b"disk"), (4, b"socket"), (5, b"link")])
    device = os.makedev(259, 70_000) & 0xFFFF_FFFF
    writer.content(3, Meta(stat.S_IFBLK | 0o4660, 7, 8, device=device), b"")
    writer.content(4, Meta(stat.S_IFSOCK | 0o600, 4_000_000_000, 9), b"")
    writer.content(5, Meta(stat.S_IFLNK | 0o777, 10, 11), b"nowhere")
    writer.extension(5, Meta(stat.S_IFLNK | 0o777), attribute_blob([(4, b"of-link", b"v")]))
    stream = writer.end()
    outcome = recover(stream, [name(tmp_path)], env=[(b"TRUSTED_XATTRS", b"y")])
    assert outcome.finished.errors == 0
    disk = (tmp_path / "disk").stat()
    assert (stat.S_IFMT(disk.st_mode), stat.S_IMODE(disk.st_mode)) == (stat.S_IFBLK, 0o4660)
    assert (disk.st_rdev, disk.st_uid, disk.st_gid) == (os.makedev(259, 70_000), 7, 8)
    socket = (tmp_path / "socket").stat()
    assert (stat.S_IFMT(socket.st_mode), socket.st_uid) == (stat.S_IFSOCK, 4_000_000_000)
    link = (tmp_path / "link").lstat()
    assert (link.st_uid, link.st_gid, link.st_mtime_ns) == (10, 11, 1_600_000_000_123_456_000)
    if b"left out" not in outcome.text():  # tmpfs and most others have them
        assert os.getxattr(tmp_path / "link", "trusted.of-link", follow_symlinks=False) == b"v"
    (tmp_path / "without").mkdir()
    outcome = recover(stream, [name(tmp_path / "without")])
    assert b"extended attributes trusted.* left out" in outcome.text()
    assert os.listxattr(tmp_path / "without" / "link", follow_symlinks=False) == []


@root_only
@pytest.mark.root
def test_a_full_destination_fails_files_and_not_the_job(tmp_path: Path) -> None:
    import subprocess

    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("no mount here")
    try:
        outcome = recover(small_stream(), [name(tmp_path)])
        assert outcome.finished.reason == 1
        assert b"/large: No space left on device" in outcome.text()
        assert outcome.status == {b"": 5}
        assert listing(tmp_path) == ALL - {"large"}
        assert (tmp_path / "dir/deep/leaf").read_bytes() == b"leaf"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_destination_that_vanishes_ends_the_job(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    stream = small_stream()
    half = stream.index(LARGE[:4096]) // 1024 * 1024
    removed = threading.Event()

    def pieces() -> None:
        while not (volume / "hard").exists():
            removed.wait(0.01)
        deadline = time.monotonic() + 25
        while volume.exists():  # the recover may still make an entry behind a listing: once more, then
            assert time.monotonic() < deadline
            shutil.rmtree(volume, ignore_errors=True)
        removed.set()

    class Stream(bytes):
        def __getitem__(self, at: slice) -> bytes:  # type: ignore[override]  # only slices are asked for
            if at.start >= half:
                assert removed.wait(30)
            return bytes(self)[at]

    thread = threading.Thread(target=pieces, daemon=True)
    thread.start()
    outcome = recover(Stream(stream), [name(volume)], lengths=1024)
    thread.join(30)
    assert outcome.finished.reason == 3
    assert "destination volume" in outcome.finished.text
    assert outcome.status[b""] != 0
