"""Trees with every kind of entry, on each file system: from us to us, to and from the tools that everybody has."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.dma.compare import compare_trees
from tests.data.backup_runner import backup_here, request
from tests.data.conftest import FileSystem
from tests.data.dump_reader import parse
from tests.data.recover_runner import name, recover
from tests.data.test_tar_backup import holdable, sockets_in
from tests.support import peers
from tests.support.trees import Tree, make_tree

DEADLINE_S = 100
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8"}
METADATA = ["--acls", "--xattrs", "--xattrs-include=*"]
EXTRACT = {
    # A time that lies in the future is worth a warning to it.
    "tar": [*METADATA, "--warning=no-timestamp", "-xpf", "-"],
    "bsdtar": ["-xpf", "-"],
}
CREATE = {
    "tar": ["--format=posix", *METADATA, "--sparse", "-cf", "-", "."],
    "bsdtar": ["--format=pax", "--acls", "--xattrs", "-cf", "-", "."],
}
# What bsdtar does to streams of GNU tar's too: it sets no time of the root, and cuts ids in ACLs to 31 bits. It writes
# the group 4000000000 as 0, and the mode of a file as if it had no ACL.
BOTH = b"attributes/acl-and-user"
OF_BSDTAR = {
    (b".", "mtime"),
    (b"attributes/acl", "mode"),
    *((BOTH, what) for what in ("xattr system.posix_acl_access", "xattr trusted.SGI_ACL_FILE", "mode", "group")),
}
TARS = [pytest.param(program, marks=pytest.mark.peer(program)) for program in EXTRACT]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Made(NamedTuple):
    """A tree on a file system, and room beside it."""

    kind: str
    root: Path
    beside: Path
    tree: Tree


@pytest.fixture(scope="module")
def whole(file_system: FileSystem) -> Made:
    """All there is."""
    root = file_system.path / "whole"
    tree = make_tree(root, wide=60, depth=8, large_xattrs=True, sub_microsecond=True, extremes=True)
    return Made(file_system.kind, root, file_system.path, tree)


@pytest.fixture(scope="module")
def plain(file_system: FileSystem) -> Made:
    """What others can hold, too."""
    root = file_system.path / "plain"
    return Made(file_system.kind, root, file_system.path, make_tree(root, wide=60, depth=8, huge_sparse=False))


@pytest.fixture(scope="module")
def dump(plain: Made) -> bytes:
    """A stream of type dump of the plain tree."""
    outcome = backup_here(request(plain.root))
    assert (outcome.finished.reason, outcome.finished.errors, outcome.lines(2, 3)) == (1, 0, [])
    return outcome.stream


@pytest.fixture(scope="module")
def tar(plain: Made) -> bytes:
    """A stream of type tar of the plain tree."""
    outcome = backup_here(request(plain.root, butype="tar"))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    return outcome.stream


@pytest.fixture
def place(file_system: FileSystem) -> Path:
    """An empty directory on the file system."""
    path = Path(tempfile.mkdtemp(dir=file_system.path))
    path.chmod(0o755)
    return path


def different(tree: Path, place: Path, *, time_granularity_ns: int = 1) -> set[tuple[bytes, str]]:
    compared = compare_trees(tree, place, time_granularity_ns=time_granularity_ns)
    assert compared.compared > 150
    return {(one.path, one.what) for one in compared.differences}


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_from_us_to_us(whole: Made, place: Path, butype: str) -> None:
    outcome = backup_here(request(whole.root, butype=butype))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.lines()
    again = recover(outcome.stream, [name(place)], butype=butype)
    assert (again.finished.reason, again.finished.errors, again.status) == (1, 0, {b"": 0}), again.text()
    sockets = {(path, "missing") for path in sockets_in(whole.root)} if butype == "tar" else set()
    assert different(whole.root, place) == sockets


# --- Debian's restore and dump -------------------------------------------------------------------------------


PROMPTS = (
    b"You have not read any volumes yet.",
    b"Unless you know which volume your file(s) are on you should start",
    b"with the last volume and work towards the first.",
    b"Specify next volume # (none if no more volumes): set owner/mode for '.'? [yn] ",
)


def restore(stream: bytes, place: Path, *options: str, commands: bytes = b"") -> tuple[bytes, list[bytes]]:
    """Runs restore on a stream in a file; returns what it printed, and the lines that it wrote to standard error."""
    temporary, file = place.with_name(place.name + "-temporary"), place.with_name(place.name + "-stream")
    temporary.mkdir()
    file.write_bytes(stream)
    command = [str(peers.require("restore")), *options, "-f", str(file), "-T", str(temporary)]
    done = subprocess.run(
        command,
        input=commands,
        cwd=place,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        start_new_session=True,  # else it asks its questions at a terminal, if there is one
    )
    said = [line for line in done.stderr.splitlines() if b"/dev/tty" not in line and line not in PROMPTS]
    assert (done.returncode, said) == (0, []) or options[0] in {"-C", "-i"}
    return done.stdout, said


@pytest.mark.peer("restore")
def test_restore_recovers_it(plain: Made, dump: bytes, place: Path) -> None:
    restore(dump, place, "-r")
    (place / "restoresymtable").unlink()
    # It removes and makes entries in the root after it has set its times.
    assert different(plain.root, place, time_granularity_ns=1000) <= {(b".", "mtime")}
    assert compare_trees(plain.root, place).compared == plain.tree.entries


@pytest.mark.peer("restore")
def test_restore_lists_it(plain: Made, dump: bytes, place: Path) -> None:
    listed, _ = restore(dump, place, "-t")
    paths = {path: number for path, number in parse(dump).tree().items() if path and b"\n" not in path}
    assert len(paths) > 150
    assert {b"%10d\t./%s" % (number, path) for path, number in paths.items()} <= set(listed.splitlines())


@pytest.mark.peer("restore")
def test_restore_extracts_it(plain: Made, dump: bytes, place: Path) -> None:
    restore(dump, place, "-x", commands=b"1\ny\n")
    assert different(plain.root, place, time_granularity_ns=1000) <= {(b".", "mtime")}


@pytest.mark.peer("restore")
def test_restore_extracts_what_is_chosen(plain: Made, dump: bytes, place: Path) -> None:
    choice = b"cd links\nls\nadd elsewhere\nadd hard-1\nadd relative\nextract\n1\nn\nquit\n"
    # The listing is on standard error, and so is that it cannot cut the sparse files which it skips.
    _, said = restore(dump, place, "-i", commands=choice)
    assert any(b"dangling@" in line for line in said)
    paths = {"links", "links/elsewhere", "links/elsewhere/hard-3", "links/hard-1", "links/relative"}
    assert {str(path.relative_to(place)) for path in place.rglob("*")} == paths
    for part in ("elsewhere", "hard-1", "relative"):
        found = compare_trees(plain.root / "links", place / "links").differences
        assert [one for one in found if one.path.startswith(part.encode()) and one.what != "missing"] == []


@pytest.mark.peer("restore")
def test_restore_compares_it(plain: Made, dump: bytes, place: Path) -> None:
    """It looks at the file system's flags of an inode too, of which our stream has none."""
    _, complaints = restore(dump, place, "-C", "-D", str(plain.root))
    others = [line for line in complaints if b": flags changed from 0x00000000 to " not in line]
    assert others in ([], [b"./names/two"])  # the beginning of a name of two lines


@pytest.mark.peer("dump")
def test_what_debians_dump_writes(plain: Made, place: Path) -> None:
    if plain.kind != "ext4":
        pytest.skip("dump reads ext2 to ext4")
    os.sync()
    command = [str(peers.require("dump")), "-0", "-f", "-", str(plain.root)]
    dumped = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S)
    outcome = recover(dumped.stdout, [name(place)], lengths=10_240)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    # It drops the fractions of seconds.
    inside = place / plain.root.name
    assert different(plain.root, inside, time_granularity_ns=10**9) == set()


# --- GNU tar and bsdtar --------------------------------------------------------------------------------------


def run(program: str, arguments: list[str], stream: bytes, place: Path) -> tuple[bytes, bytes]:
    """What the program printed and what it complained of."""
    done = subprocess.run(
        [str(peers.require(program)), *arguments],
        input=stream, cwd=place, env=ENVIRONMENT, capture_output=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.parametrize("program", TARS)
def test_they_list_it(program: str, plain: Made, tar: bytes, place: Path) -> None:
    listed, complaints = run(program, ["-tf", "-"], tar, place)
    assert complaints == b""
    assert len(listed.splitlines()) == len(holdable(plain.root))


@pytest.mark.parametrize("program", TARS)
def test_they_extract_it(program: str, plain: Made, tar: bytes, place: Path) -> None:
    assert run(program, EXTRACT[program], tar, place) == (b"", b"")
    found = different(plain.root, place)
    if program == "bsdtar":
        found -= OF_BSDTAR
    assert found == {(path, "missing") for path in sockets_in(plain.root)}


@pytest.mark.parametrize("program", TARS)
def test_what_they_write(program: str, plain: Made, place: Path) -> None:
    stream, _ = run(program, CREATE[program], b"", plain.root)
    outcome = recover(stream, [name(place)], butype="tar")
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    # tar takes no file of less than a block for one with holes.
    found = different(plain.root, place) - {(b"sparse/hole-tiny", "holes")}
    if program == "bsdtar":
        found -= OF_BSDTAR
    assert found == {(path, "missing") for path in sockets_in(plain.root)}
