"""The protocol log of a connection: a file of its own in the state directory, while an operator wants it.

A connection without a log pays one test a message. Lines are written at once and whole, so that a log of a server
that was killed is good up to its last line. A write blocks the control process for as long as the page cache takes,
which is why the rate is bounded (`mover.ndmp.dialogue`); a file that cannot be written ends its log and nothing else.
"""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import mover
from mover.config.debug_filter import interfaces
from mover.ndmp.dialogue import DialogueLog

if TYPE_CHECKING:
    from mover.control.connection import Connection

DIRECTORY: Final = "protocol-logs"
"""Below the state directory, mode 0700."""
LOGS_KEPT: Final = 32
"""The oldest give way to a new one, so that connections that come and go do not fill the disk."""
_MARK_BYTES: Final = 4


class ProtocolLog:
    """A log that is being written.

    Attributes:
        path: of the file, mode 0600.
        filter: as the operator gave it.
    """

    path: str

    def __init__(self, connection: "Connection", filter_text: str, *, whole: bool) -> None:
        """Open the file and begin; raises ValueError for a wrong filter, OSError for a file that cannot be made."""
        self.filter = filter_text
        self._dialogue = DialogueLog(interfaces(filter_text))
        self._connection = connection
        directory = os.path.join(connection.config.node.state_directory, DIRECTORY)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        writing = [each.protocol_log.path for each in connection.node.connections.values() if each.protocol_log]
        _make_room(directory, writing)
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        self.path = os.path.join(directory, f"session-{connection.session_id}-{stamp}.jsonl")
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._open = True
        self._write(
            self._dialogue.open(
                server=f"mover {mover.__version__}",
                session=connection.session_id,
                peer=f"{connection.peer_address}:{connection.peer_port}",
                version=connection.version,
                filter_text=filter_text,
                whole=whole,
                now=now,
            )
        )

    @property
    def messages(self) -> int:
        """Lines of messages so far."""
        return self._dialogue.messages

    @property
    def left_out(self) -> int:
        """Messages that came too fast."""
        return self._dialogue.left_out

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self._dialogue.bytes

    @property
    def is_open(self) -> bool:
        """Whether it is still being written: not when it is full, or could not be written."""
        return self._open

    def received(self, record: bytes) -> None:
        """A message of the DMA, before it is decoded."""
        self._log(record, from_client=True)

    def sent(self, parts: Sequence[bytes | memoryview]) -> None:
        """A message of ours as it goes out: record marking, then the record."""
        self._log(b"".join(parts)[_MARK_BYTES:], from_client=False)

    def _log(self, record: bytes, *, from_client: bool) -> None:
        protocol = self._connection.protocol
        extensions = protocol.extensions.in_force
        self._write(
            self._dialogue.message(
                protocol.version, record, from_client=from_client, now=time.time(), extensions=extensions
            )
        )

    def close(self, reason: str) -> None:
        """Write the last line; once."""
        if self._open:
            self._write(self._dialogue.close(reason, time.time()))
        self._end()

    def _write(self, lines: bytes) -> None:
        if not self._open or not lines:
            return
        try:
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]
        except OSError as error:
            self._connection.log.warning("protocol log ended", path=self.path, error=error.strerror)
            self._end()
            return
        if self._dialogue.full:
            self._connection.log.warning("protocol log is full", path=self.path, bytes=self.size_bytes)
            self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


def _make_room(directory: str, writing: Sequence[str]) -> None:
    """Remove the oldest logs that nobody writes, until one more may be there."""
    with os.scandir(directory) as entries:
        logs = [each for each in entries if each.name.startswith("session-") and each.is_file(follow_symlinks=False)]
    logs.sort(key=lambda each: each.stat(follow_symlinks=False).st_mtime)
    for entry in [each for each in logs if each.path not in writing][: max(0, len(logs) - LOGS_KEPT + 1)]:
        os.unlink(entry.path)
