"""The stream of a dump: maps of all inodes and every directory first, then everything else.

Source: dump.md section 4, backup-env.md section 6.
"""

import itertools
from collections.abc import Iterator

from mover.data.backup_files import FilePhase
from mover.data.backup_format import Job
from mover.data.backup_stream import BackupStream
from mover.data.dump_format import (
    DT_DIRECTORY,
    NO_INODE,
    RECORD_BYTES,
    ROOT_INUMBER,
    TAPE_BLOCK_RECORDS,
    DumpLabel,
    RecordType,
    bitmap,
    full_bitmap,
    pack_directory,
)
from mover.data.dump_identity import DUMP_ID, new_dump_id
from mover.data.dump_objects import DumpObjects
from mover.data.environment import dump_date
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.ring import DataPhase
from mover.workers.data_messages import Pairs


def _maps(plan: Plan) -> Iterator[tuple[RecordType, bytes | bytearray]]:
    """What is in use, and what is dumped."""
    highest, selection = plan.next_inumber - 1, plan.selection
    if selection is None:  # both are the same
        bits = full_bitmap(highest, itertools.chain([1], plan.links, plan.absent))
        yield RecordType.CLRI, bits
        yield RecordType.BITS, bits
        return
    present = bytearray(highest)
    present[ROOT_INUMBER - 1] = 1
    for number in itertools.chain(selection.hidden, selection.numbers):
        present[number - 1] = 1
    for key in plan.absent:
        present[plan.inumber_of(key) - 1] = 0
    yield RecordType.CLRI, bitmap(highest, present)
    present = bytearray(highest)
    for ordinal in plan.directories():
        present[plan.inumbers[ordinal] - 1] = 1
    for number in itertools.compress(selection.numbers, selection.others):
        present[number - 1] = 1
    yield RecordType.BITS, bitmap(highest, present)


class DumpBackup:
    """One backup of type dump."""

    names_paths = False
    object_bytes = RECORD_BYTES

    def __init__(self, job: Job) -> None:
        self._job = job
        self._label = DumpLabel(
            job.date,
            job.base.date if job.base is not None else 0,
            job.level,
            new_dump_id(),
            job.filesystem,
            host=job.host,
        )
        self.stream: BackupStream | None = None

    def environment(self) -> Pairs:
        """The dump's id, and its date where it was asked for."""
        env = [(DUMP_ID, self._label.label)]
        if self._job.options.base_date is not None:
            env.append((b"DUMP_DATE", dump_date(self._label.level, self._label.date)))
        return env

    def write(self, plan: Plan, directories: OpenDirectories) -> None:
        """The whole stream, its end included."""
        job = self._job
        stream = self.stream = BackupStream(job.data)
        objects = DumpObjects(stream, self._label)
        job.report.enter(DataPhase.DIRECTORIES)
        objects.header(RecordType.TAPE, 0, NO_INODE, 0)
        for record_type, bits in _maps(plan):
            objects.header(record_type, 0, NO_INODE, len(bits) // RECORD_BYTES)
            stream.write(bits)
        for ordinal in plan.directories():
            self._directory(plan, ordinal, objects)
        job.report.enter(DataPhase.FILES)
        FilePhase(job, plan, directories, stream, objects).run()
        job.report.enter(DataPhase.FINISH)
        for note in objects.left_out.notes():
            objects.header(RecordType.END, 0, NO_INODE, 0, addr=note)
        while objects.tapea % TAPE_BLOCK_RECORDS:
            objects.header(RecordType.END, 0, NO_INODE, 0)

    def _directory(self, plan: Plan, ordinal: int, objects: DumpObjects) -> None:
        """Phase III for one directory: its data, attributes and history."""
        inumber = plan.inumbers[ordinal]
        parent = plan.inumbers[plan.parents[ordinal]]
        entries = plan.numbered_entries(ordinal)
        assert self.stream is not None
        offset = self.stream.offset
        data = pack_directory([(inumber, DT_DIRECTORY, b"."), (parent, DT_DIRECTORY, b".."), *entries])
        inode = plan.inode(ordinal, len(data))
        objects.held(inumber, inode, data)
        objects.attributes(inumber, inode, plan.attributes.get(ordinal, []))
        report = self._job.report
        report.directories += 1
        if not ordinal % 64:
            report.publish()
        if self._job.history is not None:
            self._job.history.add_directory(plan, ordinal, entries, inode, offset)
