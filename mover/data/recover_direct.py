"""A recover by direct access: which entries of its list are jumped to, and which need more than their own pieces.

| entry | read |
| --- | --- |
| an object, with its fh_info and node | its own piece |
| one without node, as in version 2 | the dump's head too, which says which inode has the path |
| a directory with its contents | the head too, then what it names |

What needs the head and comes without the stream's length (``STREAM_BYTES``) is left to a recover that reads everything.
Source: backup-env.md section 5.
"""

from typing import Final

import msgspec

from mover.data.beneath import components
from mover.data.codes import LogType, RecoveryStatus
from mover.data.direct_objects import DirectObjects
from mover.data.direct_trees import DirectTrees
from mover.data.dump_format import RECORD_BYTES, Header
from mover.data.environment import stream_bytes
from mover.data.pieces import Pieces
from mover.data.recover_catalogue import Catalogue, read_catalogue
from mover.data.recover_plan import PathLookup, Plan, make_plan
from mover.data.recover_report import RecoverReport, Request
from mover.data.recover_stream import ALL_ONES, RecordReader
from mover.data.stream_blocks import StreamBroken, StreamRefused
from mover.data.tree_writer import TreeWriter
from mover.ring import Consumer, DataPhase
from mover.workers.channel import Channel
from mover.workers.data_messages import StartRecover, WantData

_UNKNOWN_NODES: Final = frozenset({0, ALL_ONES})  # versions 3 and 4 say so that they do not know
_UNKNOWN_PLACES: Final = frozenset({0, ALL_ONES})  # some clients send 0, where no object lies


class Missing(msgspec.Struct, frozen=True):
    """What a plan wanted and the stream did not bring: entries of the plan, and the END that may say why."""

    plan: Plan
    entries: list[int]
    end: Header


class DirectRecover:
    """One recover by direct access.

    Args:
        reader: of the ring; its source is the pieces from here on.

    Attributes:
        missing: what did not come of directories' contents; None = nothing is missing.
    """

    def __init__(
        self, channel: Channel, consumer: Consumer, reader: RecordReader, report: RecoverReport, message: StartRecover
    ) -> None:
        self.missing: Missing | None = None
        self._channel = channel
        self._consumer = consumer
        self._reader = reader
        self._report = report
        self._message = message
        self._pieces = Pieces(consumer, self._want, RECORD_BYTES, stream_bytes(message.env))
        reader.source = self._pieces
        self._catalogue: Catalogue | None = None
        self._head_end = 0
        self._paths: PathLookup | None = None
        self._at_work: DirectObjects | DirectTrees | None = None

    def _want(self, offset: int, length: int) -> None:
        self._channel.send(WantData(offset, length))

    @property
    def received_bytes(self) -> int:
        """Of the stream, as long as it comes in pieces."""
        return self._pieces.received

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        return self._at_work.path_at_hand() if self._at_work is not None else b""

    def suits(self) -> bool:
        """Whether the list can be recovered so; if not, says why to the DMA."""
        names = self._message.names
        unknown = sum(name.fh_info in _UNKNOWN_PLACES for name in names)
        if unknown:
            why = f"{unknown} of {len(names)} entries have no fh_info"
        elif self._pieces.end is None and any(name.node in _UNKNOWN_NODES for name in names):
            why = "entries have no node, and the environment does not tell the stream's length"
        else:
            return True
        self._report.say(LogType.NORMAL, f"no direct access, the stream is read from its beginning: {why}")
        return False

    def run(self, requests: list[Request], writer: TreeWriter) -> list[Request]:
        """Recover what can be; the attributes of directories are set too.

        Returns:
            Requests for which the whole stream is needed.

        Raises:
            StreamBroken, StreamRefused, DestinationLost: as a recover that reads everything; what was not reached
                has been reported.
        """
        self._report.enter(DataPhase.FILES)
        try:
            known = [request for request in requests if self._find_node(request)]
        except (StreamBroken, StreamRefused):
            _fail(requests)
            raise
        objects = DirectObjects(
            self._pieces, self._reader, writer, self._report, self._message.env, recursive=self._message.recursive
        )
        self._at_work = objects
        try:
            objects.run(known)
        except (StreamBroken, StreamRefused):
            objects.abandon()
            writer.finish_directories(objects.directories())
            raise
        writer.finish_directories(objects.directories())
        writer.forget()
        if not objects.trees or self._pieces.end is None or not self._message.direct_directories:
            return objects.trees
        self._recover_trees(objects.trees, writer)
        return []

    def leave(self) -> None:
        """The stream is read from its beginning after all; it is to be asked for when this has returned."""
        reader = self._reader
        self._pieces.go_to(reader, self._pieces.until)
        reader.jump(0)
        reader.source = self._consumer

    # --- what needs the head of the dump -------------------------------------------------------------------

    def _head(self) -> Catalogue:
        if self._catalogue is None:
            self._pieces.go_to(self._reader, 0)
            self._catalogue = read_catalogue(self._reader, self._report, self._message.env)
            self._head_end = self._reader.offset
        return self._catalogue

    def _find_node(self, request: Request) -> bool:
        """Look the path up where the list does not name the inode; False = there is none, which has been reported."""
        if request.name.node not in _UNKNOWN_NODES:
            return True
        if self._paths is None:
            self._paths = PathLookup(self._head())
        inumber = self._paths.find(components(request.name.original))
        if inumber is None:
            self._report.error(request.name.original, "not in the dump", request)
            request.status = RecoveryStatus.NOT_FOUND
            return False
        request.name = msgspec.structs.replace(request.name, node=inumber)
        return True

    def _recover_trees(self, requests: list[Request], writer: TreeWriter) -> None:
        report = self._report
        try:
            catalogue = self._head()
            self._pieces.go_to(self._reader, self._head_end)
        except (StreamBroken, StreamRefused):
            _fail(requests)
            raise
        plan = make_plan(catalogue, requests, report, recursive=True)
        writer.make_directories(plan.targets)
        trees = DirectTrees(self._pieces, self._reader, catalogue, plan, writer, report)
        self._at_work = trees
        try:
            missing = trees.run()
            if missing:
                self.missing = Missing(plan, missing, trees.find_end())
        except (StreamBroken, StreamRefused):
            trees.abandon()
            _fail(requests)
            writer.finish_directories(plan.targets)
            raise
        writer.finish_directories(plan.targets)


def _fail(requests: list[Request]) -> None:
    for request in requests:
        request.fail(RecoveryStatus.IO_ERROR)
