"""The stream of a tar backup: every directory, then what is in it, depth first. Source: tar.md sections 1, 2 and 5."""

from mover.data.backup_files import FilePhase
from mover.data.backup_format import Job
from mover.data.backup_stream import BackupStream
from mover.data.dump_identity import DUMP_ID, new_dump_id
from mover.data.environment import dump_date
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.data.tar_format import BLOCK_BYTES, RECORD_BYTES, TRAILER
from mover.data.tar_objects import TarObjects
from mover.ring import DataPhase
from mover.workers.data_messages import Pairs


class TarBackup:
    """One backup of type tar."""

    names_paths = True
    object_bytes = 3 * BLOCK_BYTES

    def __init__(self, job: Job) -> None:
        self._job = job
        self._identity = new_dump_id()
        self.stream: BackupStream | None = None

    def environment(self) -> Pairs:
        """The stream's id, and its date where it was asked for."""
        env = [(DUMP_ID, self._identity)]
        if self._job.options.base_date is not None:
            env.append((b"DUMP_DATE", dump_date(self._job.level, self._job.date)))
        return env

    def write(self, plan: Plan, directories: OpenDirectories) -> None:
        """The whole stream, its end included."""
        job = self._job
        stream = self.stream = BackupStream(job.data)
        job.report.enter(DataPhase.FILES)
        FilePhase(job, plan, directories, stream, TarObjects(job, plan, stream, self._identity)).run()
        job.report.enter(DataPhase.FINISH)
        stream.write(TRAILER)
        stream.write(bytes(-stream.offset % RECORD_BYTES))
