"""One recover of a tar stream, in order or by direct access, to the words about its end; and its history read again."""

from collections.abc import Callable

from mover.data.backup_history import HistorySender
from mover.data.beneath import components
from mover.data.codes import HaltReason, LogType, RecoveryStatus
from mover.data.environment import stream_bytes
from mover.data.file_systems import FlushFailed
from mover.data.pieces import Pieces
from mover.data.recover_options import RecoverOptions
from mover.data.recover_report import RecoverReport, Request
from mover.data.recover_stream import ALL_ONES
from mover.data.report import counted
from mover.data.stream_blocks import Source, StreamBroken, StreamRefused
from mover.data.tar_direct import TarDirect
from mover.data.tar_format import BLOCK_BYTES
from mover.data.tar_recover import TarRecoverer
from mover.data.tar_recover_history import TarHistory
from mover.data.tar_recover_members import MemberReader
from mover.data.tar_remover import Remover
from mover.data.tree_writer import DestinationLost, TreeWriter
from mover.ring import DataPhase
from mover.workers.data_messages import Pairs, StartRecover

Ended = tuple[HaltReason, str]


class TarJob:
    """What a recover of type tar does with its stream.

    Attributes:
        reader: of the stream.
    """

    def __init__(self, source: Source, report: RecoverReport, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._report = report
        self._recoverer: TarRecoverer | None = None
        self._pieces: Pieces | None = None
        self._remover: Remover | None = None
        self.reader = self._new_reader(source)

    def _new_reader(self, source: Source) -> MemberReader:
        return MemberReader(source, self._skipped, self._publish, self._note)

    @property
    def stream_bytes(self) -> int:
        """Of the stream, read so far."""
        return self._pieces.received if self._pieces is not None else self.reader.offset

    @property
    def summary(self) -> str:
        """For the last line of the recover."""
        return self._remover.summary if self._remover is not None else ""

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        return self._recoverer.path_at_hand() if self._recoverer is not None else b""

    def _skipped(self, blocks: int, first: int, why: str, zeros: bool) -> None:
        text = f"{counted(blocks, 'block', 'blocks')} of the stream from offset {first} on skipped: {why}"
        if zeros:
            self._report.log(LogType.WARNING, text.encode())
        else:
            self._report.damage(text)

    def _note(self, text: str) -> None:
        self._report.log(LogType.NORMAL, text.encode("utf-8", "surrogateescape"))

    def _tell(self, path: bytes) -> None:
        self._report.say(LogType.NORMAL, path.decode("utf-8", "surrogateescape"))

    def recover(
        self,
        requests: list[Request],
        writer: TreeWriter,
        message: StartRecover,
        *,
        options: RecoverOptions,
        want: Callable[[int, int], None],
        private_fd: int,
    ) -> Ended:
        """Recover what the list names; the reason of the end, and a line on one that is not good.

        Args:
            want: asks for so many bytes of the stream from an offset on.
            private_fd: the control socket.
        """
        report = self._report
        report.enter(DataPhase.FILES)
        left = requests
        try:
            if message.direct and options.writes:
                left = self._recover_directly(requests, writer, message, want)
            if left:
                want(0, ALL_ONES)
                self._recover_in_order(left, writer, message, options, private_fd)
            writer.file_systems.flush()
        except StreamBroken as broken:
            return HaltReason.CONNECT_ERROR, str(broken)
        except StreamRefused as refused:
            return HaltReason.INTERNAL_ERROR, str(refused)
        except (DestinationLost, FlushFailed) as failed:
            for request in requests:
                request.fail(RecoveryStatus.IO_ERROR)
            return HaltReason.INTERNAL_ERROR, str(failed)
        return HaltReason.SUCCESSFUL, ""

    def _recover_in_order(
        self, requests: list[Request], writer: TreeWriter, message: StartRecover, options: RecoverOptions, fd: int
    ) -> None:
        """From the stream's beginning to its end; raises as TarRecoverer does, with all told."""
        self.reader.length = stream_bytes(message.env)
        everything = message.recursive and len(requests) == 1 and not components(requests[0].name.original)
        remover = None
        if options.removes and options.overwrites and options.writes and everything:
            remover = self._remover = Remover(writer, self._report, requests[0])
        recoverer = TarRecoverer(
            self.reader,
            requests,
            writer,
            self._report,
            recursive=message.recursive,
            writes=options.writes,
            tell=self._tell if options.lists else None,
            private_fd=fd if remover is None else -1,
            remover=remover,
        )
        self._recoverer = recoverer
        try:
            recoverer.run(message.env)
            recoverer.tell_missing()
        except (StreamBroken, StreamRefused):
            recoverer.abandon()
            self._finish(recoverer)
            raise
        self._finish(recoverer)
        if recoverer.lists_contents and everything and options.writes:
            text = "the stream lists what its directories held; nothing was removed, which takes EXTRACT=N"
            self._report.say(LogType.WARNING, text)

    def _recover_directly(
        self, requests: list[Request], writer: TreeWriter, message: StartRecover, want: Callable[[int, int], None]
    ) -> list[Request]:
        """By pieces; returns those entries that take the whole stream. Raises as TarDirect does, with all told."""
        if not TarDirect.suits(requests, self._report, recursive=message.recursive):
            return requests
        reader, source = self.reader, self.reader.source
        pieces = Pieces(source, want, BLOCK_BYTES, stream_bytes(message.env))
        reader.source, reader.length = pieces, pieces.end
        self._pieces = pieces
        direct = TarDirect(
            pieces,
            reader,
            requests,
            writer,
            self._report,
            recursive=message.recursive,
            directories=message.direct_directories,
        )
        self._recoverer = direct
        try:
            direct.run(message.env)
        except (StreamBroken, StreamRefused):
            direct.abandon()
            self._finish(direct)
            raise
        self._finish(direct)
        if direct.left:
            pieces.go_to(reader, pieces.until)
            reader.close()
            writer.forget()
            self.reader, self._pieces = self._new_reader(source), None
        return direct.left

    def _finish(self, recoverer: TarRecoverer) -> None:
        self._report.enter(DataPhase.FINISH)
        recoverer.finish()

    def filehist(self, sender: HistorySender, env: Pairs) -> None:
        """Send the history of the stream; raises as TarHistory does."""
        TarHistory(self.reader, self._report, sender).run(env)
