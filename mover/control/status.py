"""What `mover status` shows of a connection: ONTAP's fields, then mover's own.

Source: contract.md, `status`/`probe` fields.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psutil

from mover.admin.base import Bottleneck
from mover.admin.sessions import SessionStatus, WorkerStatus
from mover.control.data_addresses import shown_address
from mover.control.volumes import show
from mover.ndmp.enums import DataOperation, DataState, TapeMode

if TYPE_CHECKING:
    from mover.control.connection import Connection
    from mover.control.workers import Worker

_RUNNING: Final = (DataState.ACTIVE, DataState.PAUSED)
FIRST_LOOK_S: Final = 0.1
_MODES: Final = {TapeMode.READ: "read", TapeMode.RDWR: "read-write", TapeMode.RAW: "raw"}


class WorkerFigures:
    """CPU, memory and I/O of worker processes; one psutil process is kept each, because CPU needs two looks."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def read(self, workers: list[Worker]) -> dict[int, WorkerStatus]:
        """The figures now, by pid; a worker that is gone is left out. Blocks: call it off the trio thread."""
        if self._look_first(workers):
            time.sleep(FIRST_LOOK_S)
        found: dict[int, WorkerStatus] = {}
        for worker in workers:
            process = self._processes.get(worker.pid)
            if process is None:
                continue
            try:
                with process.oneshot():
                    counters = process.io_counters()
                    found[worker.pid] = WorkerStatus(
                        pid=worker.pid,
                        kind=worker.kind,
                        cpu_percent=process.cpu_percent(),
                        rss_bytes=process.memory_info().rss,
                        read_bytes=counters.read_chars,
                        write_bytes=counters.write_chars,
                    )
            except psutil.Error:
                del self._processes[worker.pid]  # gone
        return found

    def _look_first(self, workers: list[Worker]) -> bool:
        """Begin to count for workers not seen before; whether there were any."""
        for pid in self._processes.keys() - {worker.pid for worker in workers}:
            del self._processes[pid]
        new = [worker for worker in workers if worker.pid not in self._processes]
        for worker in new:
            try:
                process = psutil.Process(worker.pid)
                process.cpu_percent()
            except psutil.Error:
                continue
            self._processes[worker.pid] = process
        return bool(new)


def _bottleneck(connection: Connection) -> Bottleneck:
    """What a running job waits for."""
    job, mover = connection.data.job, connection.mover
    if job is not None:
        return job.meter.bottleneck()
    return mover.meter.bottleneck() if mover.meter is not None and mover.is_remote else "idle"


def session_status(connection: Connection, figures: dict[int, WorkerStatus]) -> SessionStatus:
    """Every field of one connection."""
    common = {
        "vserver": connection.vserver,
        "session_id": connection.session_id,
        "ndmp_version": connection.version,
        "session_authorized": connection.protocol.authenticated,
        "eff_host": connection.local_address,
        "client_addr": connection.peer_address,
        "client_port": connection.peer_port,
        "node": connection.config.node.name,
        "is_secure_control_connection": connection.secure,
        "source_addr": connection.local_address,
        "workers": [figures[worker.pid] for worker in connection.workers() if worker.pid in figures],
    }
    if not connection.services_open:
        return SessionStatus(**common)
    data, mover, tape = connection.data.get_state(), connection.mover.get_state(), connection.tape
    machines = connection.machines
    data_type, data_address, data_port = shown_address(connection.data.address)
    mover_type, mover_address, mover_port = shown_address(connection.mover.address)
    ring = connection.data.ring_statistics() or connection.mover.ring_statistics()
    target = connection.scsi.target
    return SessionStatus(
        data_state=machines.data.state.name,
        data_operation=machines.data.operation.name,
        data_halt_reason=machines.data.halt_reason.name,
        data_con_addr_type=data_type,
        data_con_addr=data_address,
        data_con_port=data_port,
        data_bytes_processed=data.bytes_processed,
        mover_state=machines.mover.state.name,
        mover_mode=machines.mover.mode.name,
        mover_pause_reason=machines.mover.pause_reason.name,
        mover_halt_reason=machines.mover.halt_reason.name,
        mover_record_size=mover.record_size,
        mover_record_num=mover.record_num,
        mover_bytes_moved=mover.bytes_moved,
        mover_seek_position=mover.seek_position,
        mover_bytes_left_to_read=mover.bytes_left_to_read,
        mover_window_offset=mover.window_offset,
        mover_window_length=mover.window_length,
        mover_position=mover.record_num * mover.record_size,
        mover_setrecordsize_flag=connection.mover.record_size_set,
        mover_setwindow_flag=mover.window_length != 0,
        mover_con_addr_type=mover_type,
        mover_con_addr=mover_address,
        mover_con_port=mover_port,
        spt_device_id=target.name if target is not None else "",
        spt_ha=target.address.controller if target is not None else None,
        spt_scsi_id=target.address.id if target is not None else None,
        spt_scsi_lun=target.address.lun if target is not None else None,
        tape_device=tape.bay.name if tape.bay is not None else "",
        tape_modes=_MODES[tape.mode] if tape.bay is not None else "",
        data_backup_mode="" if machines.data.operation is DataOperation.NOACTION else connection.data.butype,
        data_path=show(connection.data.path),
        elapsed_seconds=round(connection.data.elapsed_s() or time.monotonic() - connection.started, 3),
        bottleneck=_bottleneck(connection),
        ring_fill_percent=round(100 * ring.fill_ratio, 1) if ring is not None else 0.0,
        data_phase=connection.data.phase().name if machines.data.state in _RUNNING else "",
        data_entries=connection.data.entries(),
        snapshot=connection.data.snapshot,
        is_data_connection_encrypted=any(
            end is not None and end.encrypted
            for end in (connection.data.connection_end, connection.mover.connection_end)
        ),
        **common,
    )
