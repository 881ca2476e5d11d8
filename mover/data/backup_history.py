"""File history of a backup: elements gathered into posts and put into the history ring.

Directory entries are always sent before the nodes gathered after them, because a DMA must know a node's name first
(backup-env.md 6.3 rule 5).
"""

import stat
import time
from collections.abc import Sequence
from typing import Final

from mover.data.dump_format import Inode
from mover.data.plan import Plan
from mover.ndmp.history import FILE_TYPES, HistoryEncoder
from mover.ring import DataGauge, Producer
from mover.workers.data_messages import HistoryPlan

_BILLION: Final = 1_000_000_000
_COUNT_BYTES: Final = 4
_DIRS_A_POST: Final = 512  # names added at once: what is gathered of a large directory stays small
_POST_BYTES: Final = 128 * 1024  # well below a megabyte (backup-env.md 6.5)


class _Batch:
    """Elements of one kind of post that wait to be sent."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.elements: list[bytes] = []
        self.size_bytes = 0


class HistorySender:
    """Encodes and sends the history of one backup.

    Attributes:
        encoder: makes the elements given to ``add_dirs``, ``add_nodes`` and ``add_files``.
        by_path: whether ADD_FILE is wanted instead of ADD_DIR and ADD_NODE.
        too_long: entries left out because no post can hold their path.
    """

    def __init__(self, plan: HistoryPlan, ring: Producer, gauges: memoryview) -> None:
        """Args: ring: the history ring. gauges: those of the data ring, where figures are published."""
        self.encoder = HistoryEncoder(plan.version)
        self.by_path = plan.form == "file"
        self.entries = 0
        self.too_long = 0
        self._ring = ring
        self._gauges = gauges
        self._post_bytes = min(ring.slot_bytes, _POST_BYTES) - _COUNT_BYTES
        self._dirs = _Batch(int(self.encoder.dir_code))
        self._nodes = _Batch(int(self.encoder.node_code))
        self._files = _Batch(int(self.encoder.file_code))

    def add_dirs(self, elements: list[bytes]) -> None:
        self._add(self._dirs, elements)

    def add_nodes(self, elements: list[bytes]) -> None:
        self._add(self._nodes, elements)

    def add_files(self, elements: list[bytes]) -> None:
        self._add(self._files, elements)

    def object_entry(self, path: bytes, inumber: int, inode: Inode, offset: int) -> bytes:
        """The element that tells of an object: of ADD_FILE, or of ADD_NODE, which has no path.

        Args:
            path: from the backup root, beginning with a separator.
            offset: of the object's header in the stream, its fh_info.
        """
        kind = stat.S_IFMT(inode.mode)
        values = (
            inumber,
            FILE_TYPES.get(kind, FILE_TYPES[stat.S_IFREG]),
            inode.mtime_ns // _BILLION,
            inode.atime_ns // _BILLION,
            inode.ctime_ns // _BILLION,
            inode.uid,
            inode.gid,
            inode.mode,
            inode.size if kind == stat.S_IFREG else 0,
            inode.nlink,
            offset,
        )
        return self.encoder.file_entry(path, *values) if self.by_path else self.encoder.node_entry(*values)

    def add_objects(self, elements: list[bytes]) -> None:
        """What ``object_entry`` has made."""
        (self.add_files if self.by_path else self.add_nodes)(elements)

    def add_directory(
        self, plan: Plan, ordinal: int, entries: Sequence[tuple[int, int, bytes]], inode: Inode, offset: int
    ) -> None:
        """All there is to tell of a directory.

        Args:
            entries: number, type and name of what is in it.
            offset: of its header in the stream.
        """
        inumber = plan.inumbers[ordinal]
        path = b""
        if self.by_path:
            path = b"/" + plan.path(ordinal)
        else:
            parent = plan.inumbers[plan.parents[ordinal]]
            dir_entry = self.encoder.dir_entry
            elements = [dir_entry(b".", inumber, inumber), dir_entry(b"..", parent, inumber)]
            elements += [dir_entry(name, number, inumber) for number, _, name in entries]
            for start in range(0, len(elements), _DIRS_A_POST):
                self.add_dirs(elements[start : start + _DIRS_A_POST])
        self.add_objects([self.object_entry(path, inumber, inode, offset)])

    def flush(self) -> None:
        """Send everything gathered."""
        for batch in (self._dirs, self._nodes, self._files):
            self._send(batch)

    def _add(self, batch: _Batch, elements: list[bytes]) -> None:
        size = sum(map(len, elements))
        if batch.size_bytes + size > self._post_bytes:
            if batch is self._nodes:
                self._send(self._dirs)
            self._send(batch)
        batch.elements += elements
        batch.size_bytes += size

    def _send(self, batch: _Batch) -> None:
        elements = batch.elements
        start = 0
        if elements and batch.size_bytes <= self._post_bytes:
            self._commit(batch.code, elements)
            start = len(elements)
        while start < len(elements):  # only for what is more than a post holds
            size, end = 0, start
            while end < len(elements) and size + len(elements[end]) <= self._post_bytes:
                size += len(elements[end])
                end += 1
            if end == start:
                # A path of thousands of long names, which anybody can make below a volume: the job goes on without it.
                self.too_long += 1
                self.entries -= 1
                start += 1
                continue
            self._commit(batch.code, elements[start:end])
            start = end
        self.entries += len(elements)
        self._gauges[DataGauge.HISTORY_ENTRIES] = self.entries
        batch.elements, batch.size_bytes = [], 0

    def _commit(self, code: int, elements: list[bytes]) -> None:
        ring = self._ring
        view = ring.try_reserve()
        if view is None:
            started = time.monotonic_ns()
            view = ring.reserve()
            self._gauges[DataGauge.HISTORY_WAIT_NS] += time.monotonic_ns() - started
        body = len(elements).to_bytes(_COUNT_BYTES, "big") + b"".join(elements)
        view[: len(body)] = body
        ring.commit(len(body), code)


__all__ = ["FILE_TYPES", "HistorySender"]
