"""The fast history encoders agree with the codec, and import nothing heavy."""

import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ndmp import edge, xdr
from mover.ndmp.enums import U32_MAX, FileStatUnsupported, FileType, FsType
from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.history import FILE_TYPES, HistoryEncoder, body, clamp_time
from mover.ndmp.history_decode import FAST
from mover.ndmp.messages import (
    Dir,
    FhAddDirPost,
    FhAddFilePost,
    FhAddNodePost,
    File,
    FileStat,
    Node,
    UnixName,
)
from tests.ndmp.strategies import structs

VERSIONS = [1, 2, 3, 4]
u32 = st.integers(0, U32_MAX)
u64 = st.integers(0, 2**64 - 1)
times = st.integers(-(2**40), 2**40)
names = st.binary(max_size=20)
# ftype, mtime, atime, ctime, uid, gid, mode, size, links, fh_info
Attributes = tuple[int, int, int, int, int, int, int, int, int, int]
attributes = st.tuples(st.integers(0, 8), times, times, times, u32, u32, st.integers(0, 0o177777), u64, u32, u64)


def file_stat(version: int, given: Attributes) -> FileStat:
    ftype, mtime, atime, ctime, uid, gid, mode, size, links, _ = given
    return FileStat(
        FileStatUnsupported(0), FsType.UNIX, ftype, clamp_time(mtime), clamp_time(atime), clamp_time(ctime),
        uid, gid, mode & 0o7777, size, links if version > 2 else 0,
    )  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=50, deadline=None)
@given(entries=st.lists(st.tuples(names, u32, u32), max_size=4), shift=st.sampled_from([0, 32]))
def test_dir_entries(version: int, entries: list[tuple[bytes, int, int]], shift: int) -> None:
    if version > 2:
        entries = [(name, node << shift, parent << shift) for name, node, parent in entries]
    else:
        entries = [(name, node // 2, parent // 2) for name, node, parent in entries]
    encoder = HistoryEncoder(version)
    wire = body([encoder.dir_entry(name, node, parent) for name, node, parent in entries])
    post = FhAddDirPost(tuple(Dir((UnixName(name),), node, parent) for name, node, parent in entries))
    assert edge.encode_body(version, post) == (encoder.dir_code, wire)


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=50, deadline=None)
@given(entries=st.lists(st.tuples(st.integers(0, U32_MAX - 1), attributes), max_size=4))
def test_node_entries(version: int, entries: list[tuple[int, Attributes]]) -> None:
    encoder = HistoryEncoder(version)
    wire = body([encoder.node_entry(node, *given) for node, given in entries])
    post = FhAddNodePost(tuple(Node((file_stat(version, given),), node, given[-1]) for node, given in entries))
    assert edge.encode_body(version, post) == (encoder.node_code, wire)
    assert edge.decode_request(version, encoder.node_code, wire) == post


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=50, deadline=None)
@given(entries=st.lists(st.tuples(names, u32, attributes), max_size=4))
def test_file_entries(version: int, entries: list[tuple[bytes, int, Attributes]]) -> None:
    encoder = HistoryEncoder(version)
    wire = body([encoder.file_entry(path, node, *given) for path, node, given in entries])
    post = FhAddFilePost(
        tuple(
            File((UnixName(path),), (file_stat(version, given),), node if version > 2 else 0, given[-1])
            for path, node, given in entries
        )
    )
    assert edge.encode_body(version, post) == (encoder.file_code, wire)
    assert edge.decode_request(version, encoder.file_code, wire) == post


@pytest.mark.parametrize("version", [1, 2])
def test_a_node_too_large_for_versions_1_and_2_gets_a_number_of_its_own(version: int) -> None:
    encoder = HistoryEncoder(version)
    large, other = 1 << 40, 1 << 41
    post = edge.decode_request(
        version,
        encoder.dir_code,
        body([
            encoder.dir_entry(b"a", large, 7),
            encoder.dir_entry(b"b", other, large),
            encoder.dir_entry(b"c", U32_MAX, 7),
        ]),
    )  # fmt: skip
    assert isinstance(post, FhAddDirPost)
    numbers = [(entry.node, entry.parent) for entry in post.dirs]
    assert numbers == [(U32_MAX - 1, 7), (U32_MAX - 2, U32_MAX - 1), (U32_MAX - 3, 7)]
    node = encoder.node_entry(large, FileType.REG, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    post = edge.decode_request(version, encoder.node_code, body([node]))
    assert isinstance(post, FhAddNodePost)
    assert post.nodes[0].node == U32_MAX - 1


def test_every_file_type_has_a_number() -> None:
    assert FILE_TYPES == {
        stat.S_IFDIR: 0, stat.S_IFIFO: 1, stat.S_IFCHR: 2, stat.S_IFBLK: 3, stat.S_IFREG: 4,
        stat.S_IFLNK: 5, stat.S_IFSOCK: 6,
    }  # fmt: skip


def test_no_history_in_an_unknown_version() -> None:
    with pytest.raises(ValueError, match="version 5"):
        HistoryEncoder(5)


def test_a_worker_gets_nothing_else_of_the_protocol() -> None:
    seen = "sorted(name for name in sys.modules if name.startswith(('mover.', 'msgspec', 'xdr')))"
    code = f"import sys, mover.ndmp.history; print({seen})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.strip() == "['mover.ndmp', 'mover.ndmp.enums', 'mover.ndmp.history']"


@pytest.mark.parametrize("post_type", [FhAddDirPost, FhAddNodePost])
def test_fast_decoding_agrees_with_the_codec(post_type: type[FhAddDirPost | FhAddNodePost]) -> None:
    taken = {True: 0, False: 0}

    @settings(max_examples=60, deadline=None)
    @given(post=structs(post_type), cut=st.integers(0, 3), behind=st.binary(max_size=5))
    def check(post: FhAddDirPost | FhAddNodePost, cut: int, behind: bytes) -> None:
        data = b"head" + xdr.encode(post)
        fast = FAST[post_type](data + behind, 4)
        assert fast in {None, post}
        taken[fast is not None] += 1
        for wrong in (data[: len(data) - cut * 4], data[:-1], data[:5], b"head" + b"\xff" * 60):
            fast = FAST[post_type](wrong, 4)
            try:
                expected = xdr.decode(post_type, wrong, 4)
            except XdrDecodeError:
                assert fast is None
            else:
                assert fast in {None, expected}

    check()
    assert taken[True]
    assert taken[False]


def test_what_every_server_sends_is_decoded_fast() -> None:
    encoder = HistoryEncoder(4)
    dirs = body([encoder.dir_entry(b"x" * length, length, 9) for length in range(9)])
    nodes = body([encoder.node_entry(n, 4, 1, 2, 3, 0, 0, 0o644, n, 1, n) for n in range(9)])
    assert FAST[FhAddDirPost](dirs, 0) == xdr.decode(FhAddDirPost, dirs)
    assert FAST[FhAddNodePost](nodes, 0) == xdr.decode(FhAddNodePost, nodes)
