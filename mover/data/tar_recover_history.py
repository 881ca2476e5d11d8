"""Recover filehist of a tar stream: sends the file history that its backup would have sent; writes nothing.

A path is told as its member passes. Directories and nodes are told behind the last member, because a directory's
entries come together and tar has them apart. Node numbers are given here: a tar stream holds none.
"""

import stat
from typing import Final

from mover.data.backup_history import HistorySender
from mover.data.beneath import components
from mover.data.dump_format import Inode
from mover.data.recover_report import RecoverReport
from mover.data.stream_blocks import StreamRefused
from mover.data.tar_recover import wrong_stream
from mover.data.tar_recover_members import KIND_HARD_LINK, Member, MemberReader
from mover.data.tar_recover_places import DEPTH_MAX
from mover.ring import DataPhase
from mover.workers.data_messages import Pairs

_ROOT: Final = 1
_ON_THE_WAY: Final = Inode(stat.S_IFDIR | 0o755, 1, 0, 0, 0, 0, 0, 0)


class _First:
    """The first name of an object, as its further names are told."""

    __slots__ = ("inode", "node", "offset")

    def __init__(self, node: int, inode: Inode, offset: int) -> None:
        self.node = node
        self.inode = inode
        self.offset = offset


class TarHistory:
    """The history of one stream."""

    def __init__(self, reader: MemberReader, report: RecoverReport, sender: HistorySender) -> None:
        self._reader = reader
        self._report = report
        self._sender = sender
        self._last = _ROOT
        self._firsts: dict[bytes, _First] = {}  # of files that are said to have further names
        self._directories: dict[bytes, int] = {b"": _ROOT}
        self._told: dict[int, bytes] = {}  # node of a directory -> its element
        self._entries: dict[int, list[bytes]] = {_ROOT: []}
        self._above: dict[int, int] = {_ROOT: _ROOT}
        self._nodes: list[bytes] = []

    def run(self, env: Pairs) -> None:
        """Read the stream to its end and send all of its history.

        Args:
            env: of the operation; it may name the one backup that will do.

        Raises:
            StreamBroken, StreamRefused: as the reader does; what was read before has been sent.
            RingClosed: nobody takes the history.
        """
        self._report.enter(DataPhase.FILES)
        try:
            member = self._reader.next()
            if wrong := wrong_stream(self._reader.identity, env):
                raise StreamRefused(wrong)
            while member is not None:
                self._reader.skip(member.blocks)
                self._take(member)
                member = self._reader.next()
        finally:
            if not self._sender.by_path:
                self._send_directories()
            self._sender.flush()

    def _take(self, member: Member) -> None:
        report = self._report
        try:
            parts = components(member.path)
            if len(parts) > DEPTH_MAX or member.problem:
                raise ValueError(member.problem or f"it leads {len(parts)} directories deep")
        except ValueError as error:
            report.error(member.path[:4096], str(error)[:1024])
            return
        path = b"/".join(parts)
        is_directory = stat.S_ISDIR(member.inode.mode)
        if not parts and not is_directory:
            report.error(member.path[:4096], "it would take the place of the root")
            return
        if is_directory:
            report.directories += 1
            node = self._directory(parts)
        else:
            if member.kind == KIND_HARD_LINK:
                report.add_links()
            else:
                report.add_entry(member.inode.mode, member.inode.size)
            self._last += 1
            node = self._last
        inode, offset, further = member.inode, member.offset, False
        if member.kind == KIND_HARD_LINK:
            first = self._firsts.get(member.link.removeprefix(b"./").strip(b"/"))
            if first is not None:
                node, inode, offset, further = first.node, first.inode, first.offset, True
            else:
                inode = inode._replace(mode=stat.S_IFREG | inode.mode)
        elif member.names > 1:
            inode = inode._replace(nlink=member.names)
            self._firsts[path] = _First(node, inode, offset)
        element = self._sender.object_entry(b"/" + path, node, inode, offset)
        if self._sender.by_path:
            self._sender.add_files([element])
        elif is_directory:
            self._told[node] = element
        else:
            above = self._directory(parts[:-1])
            self._entries[above].append(self._sender.encoder.dir_entry(parts[-1], node, above))
            if not further:
                self._nodes.append(element)

    def _directory(self, parts: list[bytes]) -> int:
        """The node of a directory; those on the way to it are made up where no member tells of them."""
        path = b"/".join(parts)
        node = self._directories.get(path)
        if node is not None or self._sender.by_path:
            return node or self._next_node()
        above = self._directories[b""]
        for depth in range(1, len(parts) + 1):
            path = b"/".join(parts[:depth])
            node = self._directories.get(path)
            if node is None:
                node = self._directories[path] = self._next_node()
                self._entries[node] = []
                self._above[node] = above
                self._entries[above].append(self._sender.encoder.dir_entry(parts[depth - 1], node, above))
            above = node
        return above

    def _next_node(self) -> int:
        self._last += 1
        return self._last

    def _send_directories(self) -> None:
        """ADD_DIR for every directory, in the order in which they came to be known, then every ADD_NODE."""
        encode = self._sender.encoder.dir_entry
        for node, entries in self._entries.items():
            self._sender.add_dirs([encode(b".", node, node), encode(b"..", self._above[node], node), *entries])
        for node in self._entries:
            element = self._told.get(node) or self._sender.object_entry(b"", node, _ON_THE_WAY, 0)
            self._sender.add_nodes([element])
        for element in self._nodes:
            self._sender.add_nodes([element])
