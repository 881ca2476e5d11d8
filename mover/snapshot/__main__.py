"""The snapshot helper: ``python -I -m mover.snapshot FD OUTPUT INPUT``, one for each piece of work; started by control.

It runs what control's messages name, and those name only what the configuration does. It is not confined as workers
are: mounting, LVM and ZFS take most of what root may do, and the commands of administrators take what nobody can know;
no_new_privs would break those that change their user. What it reads are names, and what commands say, which it cuts.

OUTPUT and INPUT are the two ends of the pipe that snapshot commands write to. Control holds the reading end too: where
this process is killed, the last command is over when the pipe ends.
"""

import mover.workers.lean  # noqa: F401  # first, or it is too late

# isort: split
import ctypes
import os
import sys
from typing import Final

from mover.snapshot.commands import KEPT_BYTES, Ended, Output, Stopped, run
from mover.snapshot.kinds import DIES_OF, SnapshotError, Source
from mover.workers.channel import Channel, ChannelBroken
from mover.workers.messages import Done, LogLine, Refused, ToWorker
from mover.workers.snapshot_messages import (
    CommandEnded,
    FindSnapshots,
    MakeSnapshot,
    RemoveSnapshot,
    RunCommand,
    SnapshotsFound,
    SnapshotSource,
)
from mover.workers.template import leave_stopping_to_control

NORMAL: Final = 0  # NDMP_LOG_NORMAL
ILLEGAL_STATE: Final = 19  # NDMP_ILLEGAL_STATE_ERR
UNDEFINED: Final = 20  # NDMP_UNDEFINED_ERR
_PR_SET_NAME: Final = 15


class _Helper:
    """What one helper does for control."""

    def __init__(self, channel: Channel, output: Output) -> None:
        self._channel = channel
        self._output = output

    def handle(self, message: ToWorker) -> None:
        """One request, from its beginning to its reply. Raises ChannelBroken, Stopped: control is gone."""
        match message:
            case RunCommand():
                self._command(message)
            case MakeSnapshot() | RemoveSnapshot() | FindSnapshots():
                try:
                    self._snapshot(message)
                except SnapshotError as error:
                    self._channel.send(Refused(ILLEGAL_STATE if error.absent else UNDEFINED, str(error)))
                except OSError as error:
                    self._channel.send(Refused(UNDEFINED, str(error)))
            case _:
                raise ChannelBroken(f"{type(message).__name__} was sent to a snapshot helper")

    def _command(self, message: RunCommand) -> None:
        try:
            ended = run(message.arguments, message.timeout_s, self._channel.fileno())
        except OSError as error:
            self._channel.send(CommandEnded(1, f"{message.arguments[0]}: {error.strerror}"))
            return
        self._say(ended)
        status = None if ended.late or ended.status is None else ended.status
        self._channel.send(CommandEnded(status, ended.failure(message.arguments, message.timeout_s)))

    def _snapshot(self, message: MakeSnapshot | RemoveSnapshot | FindSnapshots) -> None:
        def run_one(arguments: list[str], kept_bytes: int, directory: int | None) -> Ended:
            ended = run(
                arguments, message.timeout_s, self._channel.fileno(), self._output,
                dies_of=DIES_OF, kept_bytes=kept_bytes, directory=directory,
            )  # fmt: skip
            if kept_bytes == KEPT_BYTES:
                self._say(ended)
            return ended

        source: SnapshotSource = message.source
        found = Source(source, run_one, message.timeout_s)
        match message:
            case MakeSnapshot():
                self._channel.send(found.make(message.name))
            case RemoveSnapshot():
                found.remove(message.name)
                self._channel.send(Done())
            case FindSnapshots():
                self._channel.send(SnapshotsFound(found.find()))

    def _say(self, ended: Ended) -> None:
        for line in ended.last_words():
            self._channel.send(LogLine(NORMAL, line.encode("utf-8", "backslashreplace")))


def main(argv: list[str]) -> int:
    """Serve control until it is gone; returns the exit status."""
    if len(argv) != 4 or not all(each.isdigit() for each in argv[1:]):
        print(f"usage: {argv[0]} FD OUTPUT INPUT (helpers are started by mover serve)", file=sys.stderr)
        return 2
    control, ours, theirs = map(int, argv[1:])
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"mover-snapshot", 0, 0, 0)
    leave_stopping_to_control()
    for fd in (control, ours, theirs):
        os.set_inheritable(fd, False)
    os.set_blocking(ours, False)
    channel = Channel(control)
    helper = _Helper(channel, Output(ours, theirs))
    try:
        while True:
            helper.handle(channel.receive())
    except (ChannelBroken, Stopped):
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
