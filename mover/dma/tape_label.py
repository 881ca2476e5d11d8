"""What is on the cartridge in the open drive: its label, or whose data; and writing a label. All from the beginning."""

from typing import Final

import msgspec

from mover.dma.drive import find_end, mtio
from mover.dma.errors import CartridgeError, NdmpError
from mover.dma.jobs import RunningJob
from mover.media import HEAD_BYTES, Identified, Label, LabelError, decode_label, encode_label, identify
from mover.ndmp.enums import ErrorCode, TapeOperation
from mover.ndmp.messages import TapeReadReply, TapeReadRequest, TapeWriteReply, TapeWriteRequest

FILEMARKS_MAX: Final = 16
"""Filemarks without a record between them, behind which a tape counts as empty."""
_END: Final = frozenset({ErrorCode.EOM_ERR, ErrorCode.EOF_ERR})


class Found(msgspec.Struct, frozen=True):
    """What is on a cartridge.

    Attributes:
        label: ours, if it has one.
        other: what its first record is otherwise; None = it is blank.
    """

    label: Label | None = None
    other: Identified | None = None

    @property
    def blank(self) -> bool:
        """Whether nothing was ever written to it, or nothing but filemarks."""
        return self.label is None and self.other is None

    def __str__(self) -> str:
        if self.label is not None:
            return f"cartridge {self.label.name}"
        if self.other is None:
            return "a blank cartridge"
        if self.other.kind == "label":
            return f"a cartridge with a label of {self.other.writer}: {self.other.text}"
        what = {"dump": "a dump", "tar": "a tar archive"}.get(self.other.kind, "data")
        by = f" of {self.other.writer}" if self.other.writer else ""
        return f"a cartridge without a label, and with {what}{by}"


async def look(job: RunningJob) -> Found:
    """What is on the cartridge in the open drive.

    Raises:
        CartridgeError: its first record cannot be read.
    """
    await mtio(job, TapeOperation.REW, 1)
    try:
        record = await _read(job)
    except NdmpError as error:
        raise CartridgeError(f"{job.session.drive}: the cartridge's first record cannot be read: {error}") from error
    if record is None:
        await mtio(job, TapeOperation.REW, 1)
        return Found() if await _nothing_follows(job) else Found(other=Identified("unknown"))
    try:
        label = decode_label(record)
    except LabelError:
        label = None  # broken, but somebody's: `identify` says how
    return Found(label) if label is not None else Found(other=identify(record))


async def present_label(job: RunningJob) -> Label | None:
    """The label of the cartridge in the open drive, which stands at its beginning then; None = none can be read."""
    await mtio(job, TapeOperation.REW, 1)
    try:
        record = await _read(job)
        label = decode_label(record) if record is not None else None
    except (NdmpError, LabelError):
        label = None
    await mtio(job, TapeOperation.REW, 1)
    return label


async def empty_behind_label(job: RunningJob) -> bool:
    """Whether nothing follows the label of the cartridge in the open drive, not in its own tape file either."""
    await mtio(job, TapeOperation.REW, 1)
    await _read(job)
    return await _nothing_follows(job)


async def last_tape_file(job: RunningJob) -> int:
    """Number of the last tape file with anything in it, of the labelled cartridge in the open drive; 0 = the label."""
    await mtio(job, TapeOperation.REW, 1)
    files, unfinished = await find_end(job)
    return files if unfinished else files - 1


async def write_label(job: RunningJob, label: Label) -> None:
    """Write a label over whatever is on the cartridge in the open drive, and stand behind its filemark."""
    data, drive = encode_label(label), job.session.drive
    await mtio(job, TapeOperation.REW, 1)
    reply = await job.tape.call(TapeWriteRequest(data), TapeWriteReply, detail=f"the label on {drive}")
    if reply.count != len(data):
        raise CartridgeError(f"{drive}: {reply.count} of the label's {len(data)} bytes were written")
    if await mtio(job, TapeOperation.EOF, 1) != 1:
        raise CartridgeError(f"{drive}: the filemark behind the label could not be written")


async def _read(job: RunningJob) -> bytes | None:
    """The beginning of a record; None at a filemark or the end of data."""
    try:
        reply = await job.tape.call(TapeReadRequest(HEAD_BYTES), TapeReadReply, detail=job.session.drive)
    except NdmpError as error:
        if error.code not in _END:
            raise
        return None
    return reply.data_in


async def _nothing_follows(job: RunningJob) -> bool:
    """Whether the tape ends here but for filemarks.

    Up to version 3 a read says the same at a filemark, which it passes, and at the end of data; in version 4 the read
    stays in front of the filemark.
    """
    for _ in range(FILEMARKS_MAX):
        if await _read(job) is not None:
            return False
        if job.tape.version >= 4 and not await _passed_filemark(job):
            return True
    return job.tape.version < 4


async def _passed_filemark(job: RunningJob) -> bool:
    """Space over a filemark; False = there is none."""
    try:
        return await mtio(job, TapeOperation.FSF, 1) == 1
    except NdmpError as error:
        if error.code not in _END:
            raise
        return False
