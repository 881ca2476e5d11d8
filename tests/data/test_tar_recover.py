"""Tar streams of GNU tar, bsdtar, Python and of hand, recovered: trees equal, parts, further names, file history."""

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.data import file_systems
from mover.data.codes import RecoveryStatus
from mover.data.tar_recover_members import Member, MemberReader
from mover.dma.compare import Difference, compare_trees
from mover.ring import Entry, Kind
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.recover_runner import Outcome, cut, name, recover, recover_here
from tests.data.tar_writer import BLOCK, TarWriter, base_256
from tests.support.trees import make_tree, posix_acl

GNU = b"ustar  \0"
METADATA = ["--acls", "--xattrs", "--xattrs-include=*", "--selinux"]
# What a format cannot hold, by the kind of the difference.
WITHOUT_XATTRS = {"mtime", "xattr"}
OLD = WITHOUT_XATTRS | {"owner", "group", "missing", "set-id", "target"}
# libarchive writes the group 4000000000 as 0, and the mode of a file as if it had no ACL.
LIBARCHIVE = {"attributes/acl-and-user"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recover") / "tree"
    make_tree(root, wide=300, depth=12, large_xattrs=True, sub_microsecond=True, huge_sparse=False)
    return root


@pytest.fixture
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "syncfs", lambda fd: None)


def archive(tree: Path, *command: str, sparse: bool = True) -> bytes:
    """What a program makes of a tree; it may leave objects out and say so."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    more = ["--sparse"] if sparse and command[0] == "tar" else []
    result = subprocess.run(
        [*command, *more, "-cf", "-", "."],
        cwd=tree,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert result.returncode in {0, 1, 2}
    assert result.stdout
    return result.stdout


def differences(tree: Path, other: Path, *, but: set[str]) -> list[str]:
    """Of two trees, but for kinds of difference that a format or a program brings."""

    def counts(difference: Difference) -> bool:
        what = difference.what.split(" ")[0]
        # Sockets are in no tar stream; tar takes no file of less than a block for one with holes.
        known = difference.path in {b"special/socket", b"sparse/hole-tiny"} or what in but
        return not known and (what != "holes" or "holes" not in but)

    comparison = compare_trees(tree, other, time_granularity_ns=1)
    assert comparison.compared > 390
    return [str(difference) for difference in comparison.differences if counts(difference)]


@pytest.mark.slow
@pytest.mark.peer("tar")
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_pax_of_gnu_tar_comes_back_identical(tree: Path, tmp_path: Path, version: str) -> None:
    stream = archive(tree, "tar", "--format=posix", *METADATA, f"--sparse-version={version}")
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype="tar", lengths=[60_000, 7])
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    assert differences(tree, tmp_path / "again", but=set()) == []


@pytest.mark.slow
@pytest.mark.peer("tar")
@pytest.mark.parametrize(
    ("form", "sparse", "but"),
    [
        ("gnu", True, WITHOUT_XATTRS),
        ("oldgnu", True, WITHOUT_XATTRS),
        ("ustar", False, OLD | {"holes", "allocation"}),
        ("v7", False, OLD | {"holes", "allocation"}),
    ],
)
def test_older_formats_of_gnu_tar(tree: Path, tmp_path: Path, form: str, sparse: bool, but: set[str]) -> None:
    stream = archive(tree, "tar", f"--format={form}", sparse=sparse)
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    assert differences(tree, tmp_path / "again", but=but | ({"hard"} if form == "v7" else set())) == []


@pytest.mark.slow
@pytest.mark.peer("bsdtar")
@pytest.mark.parametrize(
    ("form", "but"),
    [
        ("pax", set[str]()),
        ("gnutar", WITHOUT_XATTRS | {"mode", "holes", "allocation", "set-id"}),
        ("ustar", OLD | {"mode", "holes", "allocation", "hard"}),
    ],
)
def test_formats_of_libarchive(tree: Path, tmp_path: Path, form: str, but: set[str]) -> None:
    stream = archive(tree, "bsdtar", f"--format={form}", "--acls", "--xattrs")
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    found = differences(tree, tmp_path / "again", but=but)
    assert [line for line in found if line.split(":")[0] not in LIBARCHIVE] == []


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(tmp_path: Path, form: int) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / ("n" * 90)).write_bytes(b"long")
    (source / "link").symlink_to("sub")
    os.link(source / "sub" / ("n" * 90), source / "other")
    (source / "ünï").write_bytes(os.urandom(3000))
    for path in [source, *source.rglob("*")]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as writer:
        writer.add(source, ".")
    outcome = recover(data.getvalue(), [name(tmp_path, below=b"again")], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert compare_trees(source, tmp_path / "again", time_granularity_ns=1).differences == []


@pytest.mark.peer("tar")
def test_names_in_acls_become_numbers(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    try:
        os.setxattr(source / "file", "system.posix_acl_access", posix_acl(0, 6, 0))  # root and root
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    stream = archive(source, "tar", "--format=posix", "--acls")
    assert b"user:root:" in stream
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype="tar")
    assert outcome.finished.errors == 0, outcome.text()
    wanted = os.getxattr(source / "file", "system.posix_acl_access")
    assert os.getxattr(tmp_path / "again/file", "system.posix_acl_access") == wanted


# --- our own -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("lengths", "slot_bytes"), [(1 << 20, 1 << 20), ([60_000, 7], 1 << 16)])
def test_our_backup_comes_back_identical(tree: Path, tmp_path: Path, lengths: int | list[int], slot_bytes: int) -> None:
    stream = backup_here(request(tree, butype="tar")).stream
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype="tar", lengths=lengths, slot_bytes=slot_bytes)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    assert differences(tree, tmp_path / "again", but=set()) == []


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_small_files_among_others(tmp_path: Path) -> None:
    """The glance at small files and the whole look at each member make the same."""
    source, again = tmp_path / "source", tmp_path / "again"
    for count in range(200):
        path = source / f"d{count % 3}" / f"f{count}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([count]) * (count * 37 % 3000))
        path.chmod(0o4755 if count % 17 == 0 else 0o640)
        if count % 13 == 0:
            os.utime(path, (1, 1))
        if count % 29 == 0:
            os.link(path, source / f"other{count}")
    stream = backup_here(request(source, butype="tar")).stream
    for below in (b"again", b"again"):  # the second time over what is there
        outcome = recover_here(stream, [name(tmp_path, below=below)], butype="tar")
        assert (outcome.finished.reason, outcome.finished.files, outcome.finished.errors) == (1, 207, 0)
        assert compare_trees(source, again, time_granularity_ns=1).differences == []
    part = recover_here(
        stream, [name(tmp_path, b"d1/f100", below=b"x"), name(tmp_path, b"d2", below=b"y")], butype="tar"
    )
    assert part.status == {b"d1/f100": 0, b"d2": 0}
    assert (tmp_path / "x").read_bytes() == (source / "d1/f100").read_bytes()
    assert compare_trees(source / "d2", tmp_path / "y", time_granularity_ns=1).differences == []


@pytest.mark.slow
def test_names_that_come_again_among_many_small_files(tmp_path: Path) -> None:
    """What comes last counts, whichever of two processes makes it."""
    streams = []
    for content, numbers in ((b"old", range(6_000)), (b"new", range(5_000, 5_400))):
        source = tmp_path / os.fsdecode(content)
        (source / "d").mkdir(parents=True)
        for count in numbers:
            (source / "d" / f"f{count:05}").write_bytes(b"%b %d" % (content, count))
        streams.append(backup_here(request(source, butype="tar")).stream)
    old, new = streams
    end = old.rindex(b"ustar") // BLOCK * BLOCK + 2 * BLOCK  # behind the last file
    both = old[:end] + new.replace(_extended_of(new), _extended_of(old))
    outcome = recover(both, [name(tmp_path, below=b"again")], butype="tar", slot_bytes=1 << 16)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.finished.files) == (1, 0, 6_400)
    for count in range(6_000):
        wanted = b"new %d" % count if 5_000 <= count < 5_400 else b"old %d" % count
        assert (tmp_path / "again/d" / f"f{count:05}").read_bytes() == wanted


def _extended_of(stream: bytes) -> bytes:
    """The extended header of small files in a stream of ours."""
    at = stream.index(b"f05000\0") - 2 * BLOCK
    return stream[at : at + BLOCK]


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_a_damaged_small_file_costs_only_itself(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for count in range(20):
        (source / f"f{count:02}").write_bytes(b"%d" % count)
    stream = bytearray(backup_here(request(source, butype="tar")).stream)
    at = stream.index(b"f07\0")
    stream[at + 1] ^= 1
    outcome = recover_here(bytes(stream), [name(tmp_path, below=b"again")], butype="tar")
    assert (outcome.finished.reason, outcome.finished.files) == (1, 19)
    assert outcome.finished.errors > 0
    assert sorted(tree_of(tmp_path / "again")) == [f"f{count:02}" for count in range(20) if count != 7]


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_a_further_name_whose_first_one_was_not_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    (source / "a").write_bytes(os.urandom(3_000_000))
    (source / "link").symlink_to("nowhere")
    with (source / "holes").open("wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"data", 300_000)
    for first in ("a", "holes"):
        (source / first).chmod(0o640)
        os.utime(source / first, ns=(5, 1_234_567_890_123_456_789))
        for count in range(3):
            os.link(source / first, source / "b" / f"{first}{count}")
    os.link(source / "link", source / "b/link", follow_symlinks=False)
    os.utime(source / "b", (7, 7))
    stream = backup_here(request(source, butype="tar")).stream
    asked = [name(tmp_path, b"b", below=b"again"), name(tmp_path, b"b/a1", below=b"alone")]
    outcome = recover_here(stream, asked, butype="tar")
    assert outcome.status == {b"b": 0, b"b/a1": 0}, outcome.text()
    assert compare_trees(source / "b", tmp_path / "again", time_granularity_ns=1).differences == []
    assert (tmp_path / "again/a0").samefile(tmp_path / "again/a2")
    assert (tmp_path / "alone").read_bytes() == (source / "a").read_bytes()
    assert not (tmp_path / "alone").samefile(tmp_path / "again/a0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "alone", "source"]


# --- parts and places ----------------------------------------------------------------------------------------


def example() -> bytes:
    writer = TarWriter().directory(b"./", 0o750).directory(b"./a/", 0o700)
    writer.file(b"./a/one", b"1" * 1000).file(b"./a/two", b"2").link(b"./a/three", b"./a/one")
    writer.directory(b"./b/").file(b"./b/four", b"4").symlink(b"./b/five", b"../a/one").link(b"./b/six", b"./a/one")
    writer.file(b"implied/way/seven", b"7")
    return writer.end()


def tree_of(root: Path) -> dict[str, bytes]:
    """Path -> content, for every file and link below."""
    return {
        str(path.relative_to(root)): os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
@pytest.mark.parametrize("recursive", [True, False])
def test_parts_go_where_they_are_asked_to(tmp_path: Path, recursive: bool) -> None:
    asked = [
        name(tmp_path, b"a", below=b"first"),
        name(tmp_path, b"a/one", below=b"second/uno", reported=b"again"),
        name(tmp_path, b"/b/four", below=b"four"),
        name(tmp_path, b"implied", below=b"third"),
        name(tmp_path, b"gone"),
    ]
    outcome = recover_here(example(), asked, butype="tar", recursive=recursive)
    assert outcome.finished.reason == 1
    # Without their contents, directories that no member tells of are not found.
    assert outcome.status == {b"a": 0, b"again": 0, b"/b/four": 0, b"implied": 0 if recursive else 2, b"gone": 2}
    found = {"second/uno": b"1" * 1000, "four": b"4"}
    if recursive:
        found |= {"first/one": b"1" * 1000, "first/two": b"2", "first/three": b"1" * 1000, "third/way/seven": b"7"}
    assert tree_of(tmp_path) == found
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o700
    if recursive:
        assert (tmp_path / "first/one").samefile(tmp_path / "first/three")
        assert not (tmp_path / "second/uno").samefile(tmp_path / "first/one")


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_of_a_further_name_alone_it_is_told_which_name_has_the_content(tmp_path: Path) -> None:
    """Other programs do not say beforehand what has further names, so nothing could be kept for them."""
    alone = recover_here(example(), [name(tmp_path, b"b/six", below=b"six")], butype="tar")
    assert alone.status == {b"b/six": RecoveryStatus.IO_ERROR}
    assert b"/six: another name of 'a/one', which has the content: name it as well" in alone.text()
    asked = [name(tmp_path, b"b/six", below=b"six"), name(tmp_path, b"a/one", below=b"one")]
    assert set(recover_here(example(), asked, butype="tar").status.values()) == {0}
    assert (tmp_path / "six").read_bytes() == b"1" * 1000


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_everything_twice_and_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "x/a").mkdir(parents=True)
    (tmp_path / "x/a/one").write_text("older")
    (tmp_path / "x/a/other").write_text("stays")
    outcome = recover_here(example(), [name(tmp_path, below=b"x"), name(tmp_path, below=b"y")], butype="tar")
    assert outcome.finished.errors == 0, outcome.text()
    x, y = tree_of(tmp_path / "x"), tree_of(tmp_path / "y")
    assert x.pop("a/other") == b"stays"
    assert x == y
    assert len(x) == 7
    for top in ("x", "y"):
        assert (tmp_path / top / "a/one").stat().st_nlink == 3
        assert stat.S_IMODE((tmp_path / top).stat().st_mode) == 0o750


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_the_options_of_a_recover(tmp_path: Path) -> None:
    dry = recover_here(example(), [name(tmp_path / "nowhere")], butype="tar", env=[(b"NOWRITE", b"Y")])
    assert (dry.finished.reason, dry.finished.directories, dry.finished.files) == (1, 3, 7)
    listed = recover_here(example(), [name(tmp_path, below=b"x")], butype="tar", env=[(b"LIST", b"Y")])
    assert [line for _, line in listed.lines[:3]] == [bytes(tmp_path / "x" / each) for each in ("", "a", "a/one")]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_text("older")
    kept = recover_here(example(), [name(tmp_path)], butype="tar", env=[(b"OVERWRITE", b"N")])
    assert kept.finished.reason == 1
    assert (tmp_path / "a/one").read_text() == "older"
    assert (tmp_path / "a/two").read_text() == "2"


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
@pytest.mark.parametrize("behind", ["a member", "the end"])
def test_a_further_name_that_tells_a_size_and_has_no_content(tmp_path: Path, behind: str) -> None:
    """As older tars write them: what follows is not its content."""
    writer = TarWriter().file(b"one", b"content").header(b"two", b"1", size=700, link=b"one")
    if behind == "a member":
        writer.file(b"three", b"3" * 2000)
    outcome = recover_here(writer.end(), [name(tmp_path)], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    found = {"one": b"content", "two": b"content"} | ({"three": b"3" * 2000} if behind == "a member" else {})
    assert tree_of(tmp_path) == found
    assert (tmp_path / "one").samefile(tmp_path / "two")


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_what_came_last_counts(tmp_path: Path) -> None:
    writer = TarWriter().file(b"x", b"old").file(b"x", b"new").directory(b"d/", 0o700).directory(b"d/", 0o711)
    outcome = recover_here(writer.end(), [name(tmp_path)], butype="tar")
    assert outcome.finished.errors == 0
    assert tree_of(tmp_path) == {"x": b"new"}
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o711


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_only_the_backup_that_was_asked_for(tmp_path: Path) -> None:
    def ours(identity: bytes) -> bytes:
        return TarWriter().pax([(b"mtime", b"1")], name=b"PaxHeaders/mover." + identity).file(b"x", b"").end()

    def reason(stream: bytes, wanted: bytes) -> int:
        return recover_here(stream, [name(tmp_path)], butype="tar", env=[(b"MOVER_DUMP_ID", wanted)]).finished.reason

    assert reason(ours(b"abc"), b"abc") == 1
    assert reason(ours(b"abc"), b"") == 1
    assert reason(ours(b"abc"), b"xyz") == 3
    assert reason(example(), b"abc") == 3


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
@pytest.mark.parametrize(
    ("change", "path", "content"),
    [
        (lambda w: w.long(b"l" * 200).file(b"l", b"x", magic=GNU), "l" * 200, b"x"),
        (lambda w: w.file(b"n", b"x", prefix=b"p/q"), "p/q/n", b"x"),
        (lambda w: w.file(b"n", b"x", magic=bytes(8), prefix=b"odd"), "n", b"x"),
        (lambda w: w.header(b"dir/", b"\0", magic=bytes(8), mode=0o755).file(b"dir/n", b"x"), "dir/n", b"x"),
        (lambda w: w.file(b"n", b"x", b"7"), "n", b"x"),
        (lambda w: w.file(b"dir/", b"Yn\0Ngone\0\0", b"D", magic=GNU, mode=0o755).file(b"dir/n", b"x"), "dir/n", b"x"),
        (lambda w: w.pax([(b"GNU.dumpdir", b"Yn\0\0")]).directory(b"dir/").file(b"dir/n", b"x"), "dir/n", b"x"),
        (lambda w: w.file(b"n", b"x", size=base_256(1, 12)), "n", b"x"),
        (lambda w: w.file("ñ".encode("latin-1"), b"x", signed=True), os.fsdecode("ñ".encode("latin-1")), b"x"),
        (lambda w: w.header(b"label", b"V", magic=GNU).file(b"n", b"x"), "n", b"x"),
        (lambda w: w.pax([(b"hdrcharset", b"BINARY"), (b"path", b"\xff")]).file(b"n", b"x"), "\udcff", b"x"),
        (lambda w: w.pax([(b"comment", b"all")], b"g").file(b"n", b"x"), "n", b"x"),
        (lambda w: w.pax([(b"path", b"n")], b"X").file(b"short", b"x"), "n", b"x"),
        (lambda w: w.pax([(b"size", b"3")]).header(b"n", size=0).data(b"abc"), "n", b"abc"),
        (lambda w: w.pax([(b"path", b"")]).file(b"n", b"x"), "n", b"x"),
        (lambda w: w.file(b"l", b"", b"2", link=b"t", size=9), "l", b"t"),
    ],
)  # fmt: skip
def test_dialects(tmp_path: Path, change: Callable[[TarWriter], TarWriter], path: str, content: bytes) -> None:
    outcome = recover_here(change(TarWriter()).file(b"last", b"").end(), [name(tmp_path)], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert tree_of(tmp_path) == {path: content, "last": b""}


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_attributes_and_times(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", "user.x", b"")
    except OSError as error:
        pytest.skip(f"no attributes here: {error}")
    (tmp_path / "probe").unlink()
    writer = TarWriter()
    writer.pax(
        [
            (b"SCHILY.xattr.user.a%3Db%25", b"\0=\n"),
            (b"SCHILY.xattr.user.empty", b""),
            (b"LIBARCHIVE.xattr.user.%6e", b"/wA"),
            (b"SCHILY.fflags", b"nodump"),
            (b"mtime", b"-1.25"),
            (b"atime", b"5000000000.123456789123"),
        ]
    ).file(b"x", b"")
    outcome = recover_here(writer.end(), [name(tmp_path)], butype="tar")
    assert outcome.finished.errors == 0, outcome.text()
    path = tmp_path / "x"
    found = {each: os.getxattr(path, each) for each in os.listxattr(path) if each.startswith("user.")}
    assert found == {"user.a=b%": b"\0=\n", "user.empty": b"", "user.n": b"\xff\0"}
    assert path.stat().st_mtime_ns == -1_250_000_000
    assert path.stat().st_atime_ns == 5_000_000_000_123_456_789


# --- cut in pieces -------------------------------------------------------------------------------------------


class Pieces:
    """A stream's source, cut anywhere."""

    def __init__(self, stream: bytes, lengths: list[int]) -> None:
        self._pieces = iter(cut(stream, lengths, 1 << 20))

    def peek(self) -> Entry:
        piece = next(self._pieces, None)
        return Entry(memoryview(piece or b""), Kind.DATA if piece is not None else Kind.END)

    def release(self) -> None:
        pass


def members_of(stream: bytes, lengths: list[int]) -> list[tuple[Member, bytes]]:
    """Every member with the content that follows it."""
    reader = MemberReader(Pieces(stream, lengths), lambda *_: pytest.fail("skipped"), lambda: None, print)
    found = []
    while (member := reader.next()) is not None:
        found.append((member, reader.read(member.blocks)[: member.stored]))
    return found


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_the_stream_may_come_in_any_pieces(lengths: list[int]) -> None:
    records = [(b"major", b"1"), (b"minor", b"0"), (b"name", b"s"), (b"realsize", b"9000")]
    content = b"3\n100\n5\n4096\n1000\n9000\n0\n".ljust(BLOCK, b"\0") + b"x" * 1005
    writer = TarWriter().pax([(b"GNU.sparse." + key, value) for key, value in records]).file(b"h", content)
    writer.long(b"l" * 300).file(b"l", b"long", magic=GNU)
    writer.stream += example()
    stream = writer.end()
    whole = members_of(stream, [len(stream)])
    assert members_of(stream, lengths) == whole
    (sparse, data), (long, _) = whole[:2]
    assert (sparse.path, sparse.inode.size, sparse.stored, data) == (b"s", 9000, 1005, b"x" * 1005)
    assert sparse.segments is not None
    assert sparse.segments.tolist() == [100, 5, 4096, 1000, 9000, 0]
    assert long.path == b"l" * 300


def test_a_stream_that_ends_too_early_leaves_no_half_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("older")
    stream = TarWriter().file(b"first", b"1").file(b"x", b"y" * 100_000).end()[:60_000]
    for end in (Kind.END, Kind.FAILED):
        outcome = recover(stream, [name(tmp_path), name(tmp_path, b"first", below=b"f")], butype="tar", end=end)
        assert outcome.finished.reason == 4
        assert outcome.status[b""] == 5
        assert (tmp_path / "x").read_text() == "older"
        assert {path.name for path in tmp_path.iterdir()} == {"first", "x", "f"}


# --- history -------------------------------------------------------------------------------------------------


def posts(outcome: Outcome) -> list[tuple[object, ...]]:
    return [tuple(item) for kind, body in outcome.posts for item in fh_reader.elements(kind, body)]


@pytest.mark.parametrize("version", [2, 4])
def test_history_by_path(version: int) -> None:
    outcome = recover(example(), [], butype="tar", filehist=HistoryPlan(version, "file"))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    assert outcome.finished.history_entries == 10
    text = repr(posts(outcome))
    for path in ("/", "/a", "/a/one", "/a/three", "/b/five", "/implied/way/seven"):
        assert repr(path.encode()) in text


@pytest.mark.parametrize("version", [3, 4])
def test_history_by_directory_and_node(version: int) -> None:
    outcome = recover(example(), [], butype="tar", filehist=HistoryPlan(version, "dir"))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    # Five directories with two entries each, four directories and seven files by name, and twelve nodes.
    assert outcome.finished.history_entries == 10 + 11 + 12
    assert len(posts(outcome)) == 33
