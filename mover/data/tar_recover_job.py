"""One recover of a tar stream from its first byte to the words about its end; and its file history, read again."""

from collections.abc import Callable

from mover.data.backup_history import HistorySender
from mover.data.codes import HaltReason, LogType, RecoveryStatus
from mover.data.environment import stream_bytes
from mover.data.file_systems import FlushFailed
from mover.data.recover_report import RecoverReport, Request
from mover.data.report import counted
from mover.data.stream_blocks import Source, StreamBroken, StreamRefused
from mover.data.tar_recover import TarRecoverer
from mover.data.tar_recover_history import TarHistory
from mover.data.tar_recover_members import MemberReader
from mover.data.tree_writer import DestinationLost, TreeWriter
from mover.ring import DataPhase
from mover.workers.messages import Pairs, StartRecover

Ended = tuple[HaltReason, str]


class TarJob:
    """What a recover of type tar does with its stream.

    Attributes:
        reader: of the stream.
    """

    def __init__(self, source: Source, report: RecoverReport, publish: Callable[[], None]) -> None:
        self.reader = MemberReader(source, self._skipped, publish, self._note)
        self._report = report
        self._recoverer: TarRecoverer | None = None

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
        writes: bool,
        lists: bool,
        private_fd: int,
    ) -> Ended:
        """Recover what the list names; the reason of the end, and a line on one that is not good.

        Args:
            writes: things are made; else the stream is read as if they were.
            lists: what is made is told, name by name.
            private_fd: the control socket.
        """
        report = self._report
        self.reader.length = stream_bytes(message.env)
        recoverer = self._recoverer = TarRecoverer(
            self.reader,
            requests,
            writer,
            report,
            recursive=message.recursive,
            writes=writes,
            tell=self._tell if lists else None,
            private_fd=private_fd,
        )
        halt, text = HaltReason.SUCCESSFUL, ""
        report.enter(DataPhase.FILES)
        try:
            try:
                recoverer.run(message.env)
                recoverer.tell_missing()
            except StreamBroken as broken:
                halt, text = HaltReason.CONNECT_ERROR, str(broken)
                recoverer.abandon()
            except StreamRefused as refused:
                halt, text = HaltReason.INTERNAL_ERROR, str(refused)
                recoverer.abandon()
            report.enter(DataPhase.FINISH)
            recoverer.finish()
            if halt is HaltReason.SUCCESSFUL:
                writer.file_systems.flush()
        except (DestinationLost, FlushFailed) as failed:
            for request in requests:
                request.fail(RecoveryStatus.IO_ERROR)
            return HaltReason.INTERNAL_ERROR, str(failed)
        return halt, text

    def filehist(self, sender: HistorySender, env: Pairs) -> None:
        """Send the history of the stream; raises as TarHistory does."""
        TarHistory(self.reader, self._report, sender).run(env)
