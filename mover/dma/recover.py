"""Recover: a tape file back onto a data server, everything or single names.

`read_tape` is the flow that listing a tape file shares: drive, mover in mode WRITE, START, then each wanted read of the
data service becomes a MOVER_READ until the data service halts (states reference, 4.7).
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import trio

from mover.dma.backup import merge_env
from mover.dma.cartridge_book import CartridgeBook, Segment
from mover.dma.cartridges_used import open_shelf
from mover.dma.catalogue import LOST, Catalogue
from mover.dma.chain import chain_text
from mover.dma.errors import JobError, NdmpError
from mover.dma.events import LogSink
from mover.dma.jobs import ProgressSink, RunningJob, open_job, reason_name
from mover.dma.options import DEFAULT_RECORD_SIZE, RecoverOptions
from mover.dma.recover_list import Wanted, recover_list, refuse_full_paths, wanted_names, with_positions
from mover.dma.results import FailedName, Job, LogLine, RecoverResult
from mover.dma.segments import SegmentSource, TapeFileSource, TapeSource
from mover.dma.services import CONNECT_S, join_services, set_window
from mover.ndmp.enums import (
    UNBOUNDED,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    RecoveryStatus,
)
from mover.ndmp.messages import (
    Address,
    Body,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartRecoverReply,
    DataStartRecoverRequest,
    MoverAbortReply,
    MoverAbortRequest,
    MoverCloseReply,
    MoverCloseRequest,
    MoverContinueReply,
    MoverContinueRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    MoverReadReply,
    MoverReadRequest,
    NotifyDataReadPost,
    NotifyMoverPausedPost,
    Pval,
)

DRAIN_S: Final = 2.0
"""How long the data service may stand still behind a mover that has read everything, before the mover is closed."""
FAILED_GRACE_S: Final = 2.0
"""How long the mover may take to see that a data service that failed broke the data connection."""
CLOSE_GRACE_S: Final = 10.0
"""How long a mover may take to halt by itself when it does not take MOVER_CLOSE."""

Start = Callable[[Address | None], tuple[Body, type[Body]]]
"""Makes the START request, given the mover's address for version 2, and names its reply."""


class Image(msgspec.Struct, frozen=True):
    """Where a backup is, and what is known of it."""

    tape_file: int
    record_size: int
    job: Job | None = None  # the catalogue's
    env: tuple[tuple[bytes, bytes], ...] = ()
    chain: str = ""  # what an incremental one builds on
    segments: tuple[Segment, ...] = ()  # on labelled cartridges


async def run_recover(
    options: RecoverOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> RecoverResult:
    """Recover names, or everything, from one tape file.

    Names that the data server could not recover are in the result. Cancellation aborts the job on the servers and takes
    some seconds at most.

    Raises:
        ControlConnectionError, LoginError: a server cannot be used.
        NdmpError: a server refused a request.
        JobError: the job to recover did not succeed, the data service did not end successfully, or the drive has no
            such tape file.
        CartridgeError, ChangerError: a cartridge that the backup lies on is not there, or the changer failed.
        CatalogueError: no catalogue, or no such job in it.
    """
    image, wanted = await trio.to_thread.run_sync(_look_up, options)
    catalogue: Catalogue | None = None
    async with contextlib.AsyncExitStack() as stack:
        if image.segments:
            catalogue = await trio.to_thread.run_sync(partial(Catalogue, options.catalogue, create=False))
            stack.callback(catalogue.close)
        destination = _destination(options, image)
        job = await stack.enter_async_context(open_job(options, progress, log, destination))
        if image.job is not None and options.job is None:
            told = f"job {image.job.job} is the newest good one: {image.job.butype} of {image.job.filesystem}"
            job.events.add_log(LogLine("normal", told))
        if image.job is not None and not (options.names or options.renames):
            job.expected_bytes = image.job.bytes_processed
            if image.chain:
                job.events.add_log(LogLine("normal", image.chain))
        nlist = recover_list(job.data.version, wanted, destination)
        env = recover_env(options, image, wanted)
        # What the catalogue knows is true of the tape, whatever type is usual.
        butype = os.fsencode(options.butype if image.job is None else image.job.butype)

        def start(address: Address | None) -> tuple[Body, type[Body]]:
            return DataStartRecoverRequest(env, nlist, butype, address), DataStartRecoverReply

        source: TapeSource = TapeFileSource(job, image.tape_file)
        if catalogue is not None:
            source = SegmentSource(open_shelf(job, options, catalogue), image.segments)
        bytes_processed = await read_tape(job, source, image.record_size, start)
        failed = [
            FailedName(fate.name, reason_name(RecoveryStatus, fate.recovery_status))
            for fate in job.events.fates
            if fate.recovery_status != RecoveryStatus.SUCCESSFUL
        ]
        names = max(1, wanted.requests)
        return RecoverResult(
            names,
            names - _failed_names(wanted, failed),
            failed,
            bytes_processed,
            job.elapsed_s,
            image.tape_file,
            job.data.version,
            job.events.warnings(),
            job.events.log,
            job.encryption,
        )


def _failed_names(wanted: Wanted, failed: list[FailedName]) -> int:
    """How many of the caller's names are not whole: a server tells of each entry, and may tell more than once."""
    if not wanted.entries:
        return 1 if failed else 0
    return len(wanted.owners({each.name for each in failed}))


def _destination(options: RecoverOptions, image: Image) -> bytes:
    """Where it goes, below which the names are."""
    if options.destination:
        return os.fsencode(options.destination)
    if image.job is None:
        raise JobError("a recover to the original place needs the catalogue's job; give a destination")
    return os.fsencode(image.job.filesystem)


def _look_up(options: RecoverOptions) -> tuple[Image, Wanted]:
    """The image, and what to recover of it; for direct access with the catalogue's positions."""
    wanted = wanted_names(options)
    if options.tape_file is not None and options.job is None:
        return Image(options.tape_file, options.record_size or DEFAULT_RECORD_SIZE), wanted
    catalogue = Catalogue(options.catalogue, create=False)
    try:
        found = catalogue.job(options.job)
        if found.status != "successful":
            raise JobError(_incomplete(found, catalogue.jobs()))
        tape_file = found.tape_file if options.tape_file is None else options.tape_file
        assert tape_file is not None, "a job that succeeded has one"
        refuse_full_paths(options, catalogue, found)
        if options.direct:
            wanted = with_positions(wanted, catalogue, found.job, options)
        env = tuple(catalogue.env(found.job))
        chain = chain_text(catalogue, found)
        segments = tuple(CartridgeBook(catalogue).segments(found.job)) if options.tape_file is None else ()
    finally:
        catalogue.close()
    if not segments and (options.changer is not None or options.wait_s):
        raise JobError(
            f"job {found.job} lies on a cartridge that the catalogue does not know: load it by hand, and recover "
            "without --changer and --wait"
        )
    return Image(tape_file, options.record_size or found.record_size, found, env, chain, segments), wanted


def _incomplete(job: Job, jobs: list[Job]) -> str:
    """Why a job that did not succeed is not recovered, and what can be done.

    Args:
        jobs: all of the catalogue: a later one begins where a job ended that wrote nothing.
    """
    if job.status == "running" or job.message == LOST:
        what = f"is running, or {LOST}" if job.status == "running" else f"failed ({LOST})"
        return (
            f"job {job.job} {what}: nothing of it is known to be complete; recover what is on the tape with --tape-file"
        )
    what = f"job {job.job} {'was aborted' if job.status == 'aborted' else job.status} ({job.message})"
    if job.tape_file is None:
        return f"{what}: it wrote no tape file"
    place = (job.tape_server, job.drive, job.tape_file)
    later = [
        each.job for each in jobs if each.job > job.job and (each.tape_server, each.drive, each.tape_file) == place
    ]
    unless = f", unless job {later[-1]} has taken its place there" if later else ""
    return f"{what}: nothing of it is complete; recover what is on the tape with --tape-file {job.tape_file}{unless}"


def recover_env(options: RecoverOptions, image: Image, wanted: Wanted) -> tuple[Pval, ...]:
    """The saved environment, DIRECT and RECURSIVE as the list wants it, then or instead the caller's pairs."""
    own = [pair for pair in image.env if pair[0] not in {b"DIRECT", b"RECURSIVE"}]
    own.append((b"DIRECT", b"y" if wanted.direct else b"n"))
    if wanted.expanded:
        own.append((b"RECURSIVE", b"n"))
    if not image.env:
        own.append((b"TYPE", os.fsencode(options.butype)))
    return merge_env(own, options.env)


async def read_tape(job: RunningJob, source: TapeSource, record_size: int, start: Start) -> int:
    """Let the data service read a backup image from tape; the bytes that it processed.

    Raises:
        NdmpError, JobError, ControlConnectionError: it did not end SUCCESSFUL.
    """
    window = await source.open()
    address = await join_services(job, MoverMode.WRITE, record_size, window)
    request, reply_type = start(address)
    await job.data.call(request, reply_type, detail=job.session.butype)
    reading = _Reading(job, source)
    await job.transfer(reading.attend)
    state = await job.data.call(DataGetStateRequest(), DataGetStateReply)
    reading.judge()
    await job.stop()
    await job.close_tape()
    return state.bytes_processed


class _Reading:
    """The DMA's part in a running read: wanted reads, pauses, the end."""

    def __init__(self, job: RunningJob, source: TapeSource) -> None:
        self.job = job
        self.source = source
        self._ran_out = ""
        self._data_halted_at: float | None = None
        self._mover_seen_active = False
        self._closed = False

    async def attend(self) -> None:
        events = self.job.events
        while events.reads and events.data_halt is None:
            await self._read(events.reads.popleft())
        if events.mover_pause is not None and events.mover_halt is None:
            pause, events.mover_pause = events.mover_pause, None
            await self._pause(pause)
        # What the mover has read may still be on its way: a data service that goes on is left to it.
        drained = bool(self._ran_out) and self.job.still_s >= DRAIN_S
        if (self._data_is_through() or drained) and events.mover_halt is None:
            await self._close()

    def _data_is_through(self) -> bool:
        """Whether nobody reads any more; a mover whose data service failed is first left to find that by itself."""
        halt = self.job.events.data_halt
        if halt is None:
            return False
        if self._data_halted_at is None:
            self._data_halted_at = trio.current_time()
        grace = 0.0 if halt.reason == DataHaltReason.SUCCESSFUL else FAILED_GRACE_S
        return trio.current_time() - self._data_halted_at >= grace

    async def _read(self, wanted: NotifyDataReadPost) -> None:
        job = self.job
        if not self._mover_seen_active:
            # Version 2 connects at START, so the mover may still be about to accept.
            await job.wait_for(
                lambda states: states.mover.state != MoverState.LISTEN, CONNECT_S, "the mover saw no data connection"
            )
            self._mover_seen_active = True
        detail = f"offset {wanted.offset}, length {'unbounded' if wanted.length == UNBOUNDED else wanted.length}"
        try:
            await job.tape.call(MoverReadRequest(wanted.offset, wanted.length), MoverReadReply, detail=detail)
        except NdmpError:
            state = (await job.tape.call(MoverGetStateRequest(), MoverGetStateReply)).state
            if state != MoverState.HALTED:  # halted: its post says why, and more than this error does
                raise

    async def _pause(self, pause: NotifyMoverPausedPost) -> None:
        reason = pause.reason
        if reason == MoverPauseReason.SEEK and (window := await self.source.go_to(pause.seek_position)) is not None:
            await set_window(self.job.tape, *window)
            await self.job.tape.call(MoverContinueRequest(), MoverContinueReply)
            return
        if reason not in {MoverPauseReason.EOF, MoverPauseReason.EOM, MoverPauseReason.SEEK}:
            raise JobError(f"the mover paused: {reason_name(MoverPauseReason, reason)}")
        # The image is at its end. A data service that has its whole image does not need more; another
        # fails when the data connection closes, and then this is why.
        mover = await self.job.tape.call(MoverGetStateRequest(), MoverGetStateReply)
        self._ran_out = f"{self.source} ended ({reason_name(MoverPauseReason, reason)}) after "
        self._ran_out += f"{mover.bytes_moved} bytes, the data service wanted more"

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        job = self.job
        try:
            await job.tape.call(MoverCloseRequest(), MoverCloseReply)
        except NdmpError as error:
            # Halted in the meantime, or a server that closes PAUSED movers only (version 4 to the letter).
            if error.code != ErrorCode.ILLEGAL_STATE_ERR:
                raise
            with contextlib.suppress(JobError):
                await job.wait_for(lambda states: states.mover.state == MoverState.HALTED, CLOSE_GRACE_S, "")
                return
            with contextlib.suppress(NdmpError):  # halted just now
                await job.tape.call(MoverAbortRequest(), MoverAbortReply)

    def judge(self) -> None:
        """Raise JobError unless the data service ended SUCCESSFUL; an odd end of the mover is only noted."""
        data, mover = self.job.events.data_halt, self.job.events.mover_halt
        assert data is not None
        assert mover is not None
        if data.reason != DataHaltReason.SUCCESSFUL:
            outcome = self.job.outcome()
            raise JobError(f"{self._ran_out}: {outcome}" if self._ran_out else outcome)
        if mover.reason != MoverHaltReason.CONNECT_CLOSED:
            self.job.events.note(f"mover halted: {reason_name(MoverHaltReason, mover.reason)}")
