"""The drive of a job: open it, find the place, write the filemark behind a backup."""

import os
from typing import Final

from mover.dma.errors import JobError, NdmpError
from mover.dma.jobs import RunningJob
from mover.ndmp.enums import UNKNOWN_U32, ErrorCode, TapeMode, TapeOperation, TapeUnsupported
from mover.ndmp.messages import (
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioReply,
    TapeMtioRequest,
    TapeOpenReply,
    TapeOpenRequest,
)

ALL_FILES: Final = 0x7F_FFFF
"""More filemarks than any cartridge has, and still what a SPACE command's 24 bits can count."""


async def open_drive(job: RunningJob, *, write: bool) -> None:
    """TAPE_OPEN, and rewind so that positions are known."""
    job.enter("position")
    drive = job.session.drive
    mode = TapeMode.RDWR if write else TapeMode.READ
    await job.tape.call(
        TapeOpenRequest(os.fsencode(drive), mode), TapeOpenReply, detail=f"{drive} at {job.tape.server}"
    )
    job.tape_open = True
    await mtio(job, TapeOperation.REW, 1)


async def mtio(job: RunningJob, operation: TapeOperation, count: int) -> int:
    """TAPE_MTIO; how many of `count` operations were done."""
    detail = f"{operation.name} {count} on {job.session.drive}"
    reply = await job.tape.call(TapeMtioRequest(operation, count), TapeMtioReply, detail=detail)
    return count - min(reply.resid_count, count)


async def write_filemark(job: RunningJob) -> None:
    """Write a filemark, which also has the drive write all that it holds. Raises JobError: it was not written."""
    if await mtio(job, TapeOperation.EOF, 1) != 1:
        raise JobError(f"{job.session.drive}: the filemark was not written: what is before it may not be on the tape")


async def go_to_end(job: RunningJob) -> int:
    """Go behind the last tape file; its number is the new one's.

    Tape left without a filemark by an interrupted writer gets one, or its image would run into ours.
    """
    files, unfinished = await find_end(job)
    if unfinished:
        await write_filemark(job)
        job.events.note(f"tape file {files} had no filemark at its end and got one")
        files += 1
    return files


async def find_end(job: RunningJob) -> tuple[int, bool]:
    """Go to the end of data; the filemarks before it, and whether there are records behind the last one."""
    try:
        files = await mtio(job, TapeOperation.FSF, ALL_FILES)
    except NdmpError as error:
        if error.code not in {ErrorCode.EOM_ERR, ErrorCode.EOF_ERR}:
            raise
        files = (await job.tape.call(TapeGetStateRequest(), TapeGetStateReply)).file_num  # some say so at blank tape
        if files == UNKNOWN_U32:
            raise
    state = await job.tape.call(TapeGetStateRequest(), TapeGetStateReply)
    known = not state.unsupported & TapeUnsupported.BLOCKNO and state.blockno != UNKNOWN_U32
    return files, known and state.blockno != 0


async def go_to_file(job: RunningJob, number: int, *, rewind: bool = False) -> None:
    """Go to the first record of a tape file, from the beginning of the tape; ``rewind`` = go there first."""
    if rewind:
        await mtio(job, TapeOperation.REW, 1)
    if number:
        done = await mtio(job, TapeOperation.FSF, number)
        if done < number:
            raise JobError(f"{job.session.drive}: no tape file {number}, the cartridge ends behind {done} filemarks")
