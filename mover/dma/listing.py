"""Listing: the catalogue's jobs, a job's entries, or a tape file's own table of contents."""

import fnmatch
import os
import re
from collections.abc import Callable

import trio

from mover.dma.backup import merge_env
from mover.dma.catalogue import Catalogue
from mover.dma.errors import JobError, NdmpError, one_line
from mover.dma.events import LogSink
from mover.dma.history import history_sink
from mover.dma.jobs import ProgressSink, open_job
from mover.dma.options import ListOptions, TapeListOptions
from mover.dma.recover import read_tape
from mover.dma.results import Entry, Job, ListResult
from mover.dma.segments import TapeFileSource
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import (
    Address,
    Body,
    DataStartRecoverFilehistReply,
    DataStartRecoverFilehistRequest,
    RecoverName,
)


async def run_list(
    options: ListOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> ListResult:
    """List jobs, or the entries of one job or tape file (`options` says which).

    Raises:
        CatalogueError: no catalogue, or no such job in it.
        DmaError: with `from_tape`, as `run_recover`.
    """
    if options.from_tape is not None:
        return ListResult([], await _from_tape(options.from_tape, options.pattern, progress, log))
    jobs, entries = await trio.to_thread.run_sync(_from_catalogue, options)
    return ListResult(jobs, entries)


def matcher(pattern: str | None) -> Callable[[bytes], bool]:
    """Whether a path is meant: by a path itself and all below it, or by a pattern over the whole path."""
    if pattern is None:
        return lambda _path: True
    raw = b"/" + os.fsencode(pattern).strip(b"/")
    if re.search(rb"[*?[]", raw):
        match = re.compile(os.fsencode(fnmatch.translate(os.fsdecode(raw)))).match
        return lambda path: match(path) is not None
    below = raw.rstrip(b"/") + b"/"
    return lambda path: path == raw or path.startswith(below)


def _from_catalogue(options: ListOptions) -> tuple[list[Job], list[Entry]]:
    catalogue = Catalogue(options.catalogue, create=False)
    try:
        if options.job is None:
            return catalogue.jobs(), []
        job = catalogue.job(options.job)
        wanted = matcher(options.pattern)
        return [job], [entry for entry in catalogue.entries(job.job) if wanted(entry.path)]
    finally:
        catalogue.close()


async def _from_tape(
    options: TapeListOptions, pattern: str | None, progress: ProgressSink | None, log: LogSink | None
) -> list[Entry]:
    catalogue = await trio.to_thread.run_sync(Catalogue, None)
    try:
        async with open_job(options, progress, log) as job:
            if job.data.version < 4:
                raise JobError(
                    f"{options.data} speaks version {job.data.version}: listing a tape needs version 4, "
                    "without it only the catalogue can be listed"
                )
            number = catalogue.begin_job(
                data_server=str(options.data),
                tape_server=str(options.tape or options.data),
                drive=one_line(options.drive),
                record_size=options.record_size,
                butype=one_line(options.butype),
                filesystem=b"",
                protocol_version=job.data.version,
            )
            async with history_sink(catalogue, number) as sink:
                job.events.history = sink
                try:
                    source = TapeFileSource(job, options.tape_file)
                    await read_tape(job, source, options.record_size, _start(options))
                except BaseException as error:
                    await job.abort(error)  # before the sink goes, as in a backup
                    if isinstance(error, NdmpError) and error.code == ErrorCode.NOT_SUPPORTED_ERR:
                        raise JobError(f"{options.data} cannot list a tape of type {options.butype}") from error
                    raise
            wanted = matcher(pattern)
            return await trio.to_thread.run_sync(
                lambda: [entry for entry in catalogue.entries(number) if wanted(entry.path)]
            )
    finally:
        catalogue.close()


def _start(options: TapeListOptions) -> Callable[[Address | None], tuple[Body, type[Body]]]:
    env = merge_env([(b"TYPE", os.fsencode(options.butype)), (b"HIST", b"y")], options.env)
    everything = (RecoverName(b"", b"/"),)  # version 4 wants an entry; nothing is written
    request = DataStartRecoverFilehistRequest(env, everything, os.fsencode(options.butype))
    return lambda _address: (request, DataStartRecoverFilehistReply)
