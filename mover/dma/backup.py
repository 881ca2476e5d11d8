"""Backup: one file system into one tape file, or over labelled cartridges; history and environment into the catalogue.

The sequence is that of the states reference, section 8: the drive first, then the mover, then the data service.
"""

import os
import time

import trio

from mover.dma.cartridge_book import CartridgeBook
from mover.dma.cartridges_used import CartridgesUsed
from mover.dma.catalogue import Catalogue
from mover.dma.drive import go_to_end, open_drive, write_filemark
from mover.dma.errors import CartridgeError, CartridgeFullError, DmaError, JobError, one_line
from mover.dma.events import LogSink
from mover.dma.history import history_sink
from mover.dma.jobs import ProgressSink, RunningJob, open_job, reason_name
from mover.dma.options import BackupOptions
from mover.dma.results import BackupResult
from mover.dma.services import join_services
from mover.dma.tape_label import present_label
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode, MoverPauseReason
from mover.ndmp.messages import (
    DataGetEnvReply,
    DataGetEnvRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupReply,
    DataStartBackupRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    Pval,
)


async def run_backup(
    options: BackupOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> BackupResult:
    """Back up `options.filesystem` into a new tape file and note the job in the catalogue.

    Cancellation aborts the job on the servers, notes it as aborted, and takes some seconds at most.

    Raises:
        ControlConnectionError, LoginError: a server cannot be used.
        NdmpError: a server refused a request.
        CartridgeFullError: the tape ended before the backup, which is written without labels.
        CartridgeError, ChangerError: there is no cartridge to write, the one in the drive is for backups with
            labels, or the changer failed.
        JobError: data service or mover did not end as they should.
        CatalogueError: the catalogue cannot be written.
    """
    catalogue = await trio.to_thread.run_sync(Catalogue, options.catalogue)
    try:
        async with open_job(options, progress, log, os.fsencode(options.filesystem)) as job:
            return await _Backup(options, catalogue, job).run()
    finally:
        catalogue.close()


class _Backup:
    def __init__(self, options: BackupOptions, catalogue: Catalogue, job: RunningJob) -> None:
        self.options = options
        self.catalogue = catalogue
        self.job = job
        self.used: CartridgesUsed | None = None  # labelled ones
        self.tape_file: int | None = None
        self.bytes_processed = 0
        self.env: list[tuple[bytes, bytes]] = []

    async def run(self) -> BackupResult:
        options, job = self.options, self.job
        number = await trio.to_thread.run_sync(self._begin)
        if options.changer is not None or options.labels:
            self.used = CartridgesUsed(job, self.catalogue, number)
        status, message = "failed", "internal error of the DMA"
        try:
            async with history_sink(self.catalogue, number) as sink:
                job.events.history = sink
                try:
                    await self._write()
                except BaseException as error:
                    await job.abort(error)  # before the sink goes: history may come until the data service has halted
                    raise
            status, message = "successful", ""
        except (trio.Cancelled, KeyboardInterrupt):
            status, message = "aborted", "cancelled"
            raise
        except DmaError as error:
            status, message = "failed", str(error)
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._end, number, status, message)
        assert self.tape_file is not None
        return BackupResult(
            number,
            self.bytes_processed,
            sink.names,
            job.elapsed_s,
            self.tape_file,
            self.used.names if self.used is not None else [],
            options.record_size,
            job.data.version,
            self.env,
            job.events.warnings(),
            job.events.log,
            job.encryption,
        )

    def _begin(self) -> int:
        options, job = self.options, self.job
        data_server, filesystem = str(options.data), os.fsencode(options.filesystem)
        job.expected_bytes = self.catalogue.earlier_bytes(data_server, filesystem, options.level)
        return self.catalogue.begin_job(
            data_server=data_server,
            tape_server=str(options.tape or options.data),
            drive=one_line(options.drive),
            record_size=options.record_size,
            butype=one_line(options.butype),
            filesystem=filesystem,
            protocol_version=job.data.version,
            keep_until=time.time() + options.keep_s if options.keep_s is not None else None,
            level=options.level,
        )

    def _end(self, number: int, status: str, message: str) -> None:
        self.catalogue.end_job(
            number,
            status,
            message,
            tape_file=self.tape_file,
            bytes_processed=self.bytes_processed,
            env=self.env,
            log=self.job.events.log,
        )

    async def _write(self) -> None:
        options, job = self.options, self.job
        if self.used is not None:
            await self.used.begin(append=not options.new_cartridge)
            self.tape_file = self.used.tape_file
        else:
            await open_drive(job, write=True)
            await self._keep_off_labels()
            self.tape_file = 0 if options.overwrite else await go_to_end(job)
        address = await join_services(job, MoverMode.READ, options.record_size)
        await job.data.call(
            DataStartBackupRequest(os.fsencode(options.butype), backup_env(options), address),
            DataStartBackupReply,
            detail=options.filesystem,
        )
        await job.transfer(self._attend)
        data = await job.data.call(DataGetStateRequest(), DataGetStateReply)
        mover = await job.tape.call(MoverGetStateRequest(), MoverGetStateReply)
        self.bytes_processed = data.bytes_processed
        self._judge()
        if mover.bytes_moved < data.bytes_processed:
            text = f"the data service sent {data.bytes_processed} bytes, the mover moved {mover.bytes_moved}"
            raise JobError(f"{text}: the rest is not on tape")
        if self.used is not None:
            await self.used.end(mover.bytes_moved)
            self.tape_file = self.used.tape_file
        env = await job.data.call(DataGetEnvRequest(), DataGetEnvReply)
        self.env = [(pair.name, pair.value) for pair in env.env]
        await write_filemark(job)
        await job.close_tape()
        await job.stop()  # last: with DATA_STOP the server counts this backup as one to base others on

    async def _keep_off_labels(self) -> None:
        """Leave a labelled cartridge to backups that tell the book of cartridges what they write to it.

        Raises:
            CartridgeError: there is one in the drive, and it is to be written behind what is on it, or is needed.
        """
        label = await present_label(self.job)
        if label is None:
            return
        where = f"cartridge {label.name} is in {self.options.drive}"
        if not self.options.overwrite:
            raise CartridgeError(f"{where}: a backup goes to a labelled cartridge with --labels or --changer")
        book = CartridgeBook(self.catalogue)
        known = await trio.to_thread.run_sync(book.find, label.id)
        if known is None:
            return
        if known.id in await trio.to_thread.run_sync(book.needed, time.time()):
            raise CartridgeError(
                f"{where}, and backups on it are to be kept: mover cartridge label --overwrite loses them"
            )
        await trio.to_thread.run_sync(book.written_over, known)

    async def _attend(self) -> None:
        pause = self.job.events.mover_pause
        if pause is None:
            return
        if pause.reason in {MoverPauseReason.EOM, MoverPauseReason.EOF, MoverPauseReason.EOW}:
            mover = await self.job.tape.call(MoverGetStateRequest(), MoverGetStateReply)
            if self.used is not None:
                self.job.events.mover_pause = None
                await self.used.go_on(mover.bytes_moved)
                return
            raise CartridgeFullError(
                f"{self.options.drive}: the cartridge is full after {mover.bytes_moved} bytes of this backup; "
                "one that goes on to another takes --changer or --labels"
            )
        raise JobError(f"the mover paused: {reason_name(MoverPauseReason, pause.reason)}")

    def _judge(self) -> None:
        data, mover = self.job.events.data_halt, self.job.events.mover_halt
        assert data is not None
        assert mover is not None
        if data.reason != DataHaltReason.SUCCESSFUL or mover.reason != MoverHaltReason.CONNECT_CLOSED:
            raise JobError(self.job.outcome())


def backup_env(options: BackupOptions) -> tuple[Pval, ...]:
    """The environment of START_BACKUP: the DMA's own variables, then or instead the caller's."""
    own = {
        "FILESYSTEM": options.filesystem,
        "TYPE": options.butype,
        "HIST": options.history,
        "LEVEL": str(options.level),
        "UPDATE": "y" if options.update else "n",
    }
    return merge_env([(name.encode(), os.fsencode(value)) for name, value in own.items()], options.env)


def merge_env(own: list[tuple[bytes, bytes]], given: list[tuple[str, str]]) -> tuple[Pval, ...]:
    """Our pairs without those that the caller gives, then the caller's."""
    extra = [(os.fsencode(name), os.fsencode(value)) for name, value in given]
    names = {name for name, _ in extra}
    return tuple(Pval(name, value) for name, value in [pair for pair in own if pair[0] not in names] + extra)
