"""The admin socket's server: answers the commands of operators, one JSON line a request."""

import os
import socket
import struct
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec
import structlog
import trio

import mover
from mover.admin import accounts, clusters, dump_dates, jobs, options, sessions, tapes
from mover.admin import messages as a
from mover.admin.statistics import StatisticsShow
from mover.control import admin_accounts, admin_cluster, admin_dump_dates, admin_library, admin_options, admin_robot
from mover.control.cartridges import InventoryError
from mover.control.drives import DriveBay, LibraryDrive
from mover.control.looks import look
from mover.control.node import Node
from mover.control.protocol_log import ProtocolLog
from mover.control.status import WorkerFigures, session_status
from mover.ndmp.table import VERSIONS

KILL_S: Final = 30.0
KILL_CLOSE_S: Final = 5.0  # how long the drive of a killed session may take to close
ACCEPT_RETRY_S: Final = 0.2
CHUNK_BYTES: Final = 64 * 1024
_CARTRIDGES: Final = "a directory of cartridges"

log = structlog.get_logger()


class AdminServer:
    """Serves the admin socket of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._figures = WorkerFigures()
        self._closing = trio.CancelScope()

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Accept commands until closed."""
        with self._closing:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        sock, _ = await listener.accept()
                    except OSError as error:
                        # Too many files, perhaps: the next one may do better.
                        log.warning("no command accepted", error=error.strerror)
                        await trio.sleep(ACCEPT_RETRY_S)
                        continue
                    nursery.start_soon(self._converse, trio.SocketStream(sock))

    def close(self) -> None:
        """No more commands."""
        self._closing.cancel()

    async def _converse(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()
        operator = _user_id(stream.socket)
        try:
            async with stream:
                while True:
                    end = buffer.find(b"\n")
                    if end < 0:
                        if len(buffer) > a.REQUEST_BYTES_MAX:
                            await self._reply(stream, a.Failed("bad-request", "the request is too long"))
                            return
                        chunk = await stream.receive_some(CHUNK_BYTES)
                        if not chunk:
                            return
                        buffer += chunk
                        continue
                    line = bytes(buffer[:end])
                    del buffer[: end + 1]
                    try:
                        request = a.decode_request(line)
                    except a.MessageError as error:
                        await self._reply(stream, a.Failed("bad-request", str(error)))
                        continue
                    await self._reply(stream, await self._answer(request, operator))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a command went away")
        except Exception:  # its reply cannot be encoded, or the like
            log.exception("command failed")

    @staticmethod
    async def _reply(stream: trio.SocketStream, reply: a.Reply) -> None:
        await stream.send_all(a.encode_reply(reply))

    async def _answer(self, request: a.Request, operator: int) -> a.Reply:
        try:
            match request:
                case a.Version():
                    return self._version(request)
                case sessions.Status():
                    return await self._status(request)
                case jobs.Jobs():
                    return await self._jobs(request)
                case sessions.Kill():
                    return await self._kill(request, operator)
                case sessions.KillAll():
                    return await self._kill_all(request, operator)
                case options.OptionsShow():
                    return admin_options.show(self._node, request)
                case options.OptionsModify():
                    return await admin_options.modify(self._node, request, operator)
                case sessions.LogStart():
                    return self._log_start(request)
                case sessions.LogStop():
                    return self._log_stop(request)
                case StatisticsShow():
                    return await self._node.statistics.show(request)
                case tapes.TapeShow():
                    return await look(_CARTRIDGES, self._tape_show)
                case tapes.TapeCreate():
                    return await self._tape_create(request)
                case tapes.TapeLoad():
                    bay = self._bay(request.drive)
                    if bay.real:
                        return await admin_robot.load(self._node, bay, request.barcode)
                    with bay.moving():
                        loaded = await bay.load(request.barcode)
                    chosen = isinstance(bay, LibraryDrive) and request.barcode is None
                    return a.Done(f"{loaded}{' (empty)' if chosen else ''} is in {bay.name}", [loaded])
                case tapes.TapeUnload():
                    bay = self._bay(request.drive)
                    if bay.real:
                        return await admin_robot.unload(self._node, bay)
                    with bay.moving():
                        unloaded = await bay.unload()
                    return a.Done(f"{unloaded} is out of {bay.name}", [unloaded])
                case dump_dates.DumpDatesList():
                    return await trio.to_thread.run_sync(admin_dump_dates.list_dates, self._node.dump_dates)
                case dump_dates.DumpDatesDelete():
                    return await trio.to_thread.run_sync(admin_dump_dates.delete, self._node.dump_dates, request)
                case dump_dates.DumpDatesExport():
                    return await trio.to_thread.run_sync(admin_dump_dates.write_file, self._node.dump_dates, request)
                case dump_dates.DumpDatesImport():
                    return await trio.to_thread.run_sync(admin_dump_dates.read_file, self._node.dump_dates, request)
                case clusters.NodeShow() | clusters.VolumeShow() | clusters.VolumeMove():
                    return await admin_cluster.answer(self._node, request, operator)
                case tapes.LibraryShow():
                    return await admin_library.show(self._node, request)
                case tapes.LibraryInventory():
                    return await admin_library.look(self._node, request)
                case tapes.LibraryMove():
                    return await admin_library.move(self._node, request)
                case (
                    accounts.UserCreate()
                    | accounts.UserModify()
                    | accounts.UserDelete()
                    | accounts.UserShow()
                    | accounts.RoleCreate()
                    | accounts.RoleDelete()
                    | accounts.RoleShow()
                    | accounts.GeneratePassword()
                ):
                    return await admin_accounts.answer(self._node, request, operator)
                case _:
                    assert_never(request)
        except InventoryError as error:
            return a.Failed(error.code, str(error))
        except TimeoutError as error:  # of a look
            return a.Failed("failed", f"{error.filename}: {error.strerror}")
        except Exception as error:  # whatever an operator's command meets, the jobs of DMAs go on
            log.exception("command failed", request=type(request).__name__)
            return a.Failed("failed", f"{type(error).__name__}: {error}")

    def _bay(self, name: str) -> DriveBay:
        bay = self._node.devices.find(name)
        if bay is None:
            known = ", ".join(each.name for each in self._node.devices) or "none"
            raise InventoryError("not-found", f"there is no drive {name} (drives: {known})")
        return bay

    async def _status(self, request: sessions.Status) -> a.Reply:
        connections = sorted(self._node.connections.values(), key=lambda each: each.session_id)
        if request.session_id is not None:
            connections = [each for each in connections if each.session_id == request.session_id]
            if not connections:
                return a.Failed("not-found", f"there is no session {request.session_id}")
        figures = await trio.to_thread.run_sync(
            self._figures.read, [worker for each in connections for worker in each.workers()]
        )
        return sessions.StatusReply([session_status(each, figures) for each in connections], self._hung())

    def _hung(self) -> list[sessions.HungDevice]:
        devices = self._node.devices
        hung: dict[str, float | None] = {each.name: each.hung_since for each in (*devices, *devices.own_changers)}
        return [sessions.HungDevice(name=name, hung_since=since) for name, since in hung.items() if since is not None]

    async def _jobs(self, request: jobs.Jobs) -> a.Reply:
        book = self._node.jobs
        running = {number: status() for number, status in book.running.items()}
        found = await trio.to_thread.run_sync(book.jobs, running, request.number)
        if request.number is None:
            return jobs.JobsReply([msgspec.structs.replace(job, sizes=[], error_causes=[]) for job in found])
        return (
            jobs.JobsReply(found) if found else a.Failed("not-found", f"there is no record of a job {request.number}")
        )

    async def _kill(self, request: sessions.Kill, operator: int) -> a.Reply:
        connection = self._node.connections.get(request.session_id)
        if connection is None:
            return a.Failed("not-found", f"there is no session {request.session_id}")
        log.warning("session killed", session=request.session_id)
        self._node.audit.event(
            "kill",
            session=request.session_id,
            user=connection.authenticated_as,
            client=connection.peer_address,
            uid=operator,
        )
        await connection.shut_down("the session was ended by an operator")
        connection.end(KILL_CLOSE_S)
        with trio.move_on_after(KILL_S):
            await connection.gone.wait()
            return a.Done(f"session {request.session_id} is ended")
        return a.Failed("failed", f"session {request.session_id} has not ended within {KILL_S:g} s")

    async def _kill_all(self, request: sessions.KillAll, operator: int) -> a.Reply:
        if failed := admin_options.no_vserver(self._node, request.vserver or ""):
            return failed
        ids = [
            each.session_id
            for each in self._node.connections.values()
            if request.vserver is None or each.vserver == request.vserver
        ]
        refused: list[str] = []

        async def kill(session_id: int) -> None:
            reply = await self._kill(sessions.Kill(session_id), operator)
            if isinstance(reply, a.Failed) and reply.code != "not-found":  # that one has ended by itself
                refused.append(reply.text)

        async with trio.open_nursery() as nursery:
            for session_id in ids:
                nursery.start_soon(kill, session_id)
        if refused:
            return a.Failed("failed", "; ".join(refused))
        return a.Done(f"{len(ids)} sessions are ended", [str(each) for each in ids])

    def _log_start(self, request: sessions.LogStart) -> a.Reply:
        connection = self._node.connections.get(request.session_id)
        if connection is None:
            return a.Failed("not-found", f"there is no session {request.session_id}")
        if connection.protocol_log is not None and connection.protocol_log.is_open:
            path = connection.protocol_log.path
            return a.Failed("busy", f"session {request.session_id} is logged already, to {path}")
        try:
            return _log_reply(connection.session_id, connection.start_log(request.filter))
        except ValueError as error:
            return a.Failed("bad-request", f"filter {request.filter!r}: expected {error}")
        except OSError as error:
            return a.Failed("failed", f"no protocol log: {error.filename}: {error.strerror}")

    def _log_stop(self, request: sessions.LogStop) -> a.Reply:
        connection = self._node.connections.get(request.session_id)
        if connection is None:
            return a.Failed("not-found", f"there is no session {request.session_id}")
        ended = connection.stop_log("stopped by an operator")
        if ended is None:
            return a.Failed("not-found", f"session {request.session_id} is not logged")
        return _log_reply(connection.session_id, ended)

    async def _tape_create(self, request: tapes.TapeCreate) -> a.Reply:
        inventory = self._node.devices.libraries.get(request.library)
        if inventory is None:
            known = ", ".join(self._node.devices.libraries) or "none"
            return a.Failed("not-found", f"there is no library {request.library} (libraries: {known})")
        made = await inventory.create(request.barcode, request.count)
        return a.Done(f"made {_list(made)} in {request.library}", made)

    def _version(self, request: a.Version) -> a.Reply:
        scope = self._node.scopes.get(request.vserver)
        if scope is None:
            return a.Failed("not-found", f"there is no vserver {request.vserver}")
        return a.VersionReply(
            mover.__version__,
            self._node.config.node.name,
            os.getpid(),
            [version for version in VERSIONS if version <= scope.config.node.maxversion],
            self._node.secure_ports.fingerprint,
        )

    def _tape_show(self) -> a.Reply:
        drives = [
            tapes.DriveStatus(
                name=bay.name,
                library=bay.library,
                state=bay.state,
                session_id=bay.session_id,
                barcode=bay.barcode,
                path=bay.path or "",
                write_protected=bay.write_protected(),
                unflushed=bay.unflushed,
                hung_since=bay.hung_since,
                model="" if not bay.real else f"{bay.identity.vendor} {bay.identity.product}".strip(),
                serial="" if not bay.real else bay.identity.serial,
            )
            for bay in self._node.devices
        ]
        cartridges = [
            tapes.CartridgeStatus(
                barcode=each.barcode,
                library=inventory.library.name,
                path=each.path,
                drive=f"{inventory.library.name}/drive{each.where.number}" if each.where.element == "drive" else "",
                used_bytes=each.used_bytes(),
                capacity_bytes=inventory.library.cartridge_size,
                write_protected=each.write_protected(),
                unflushed=each.where.element != "mail" and self._node.devices.unflushed.holds(each.path),
            )
            for inventory in self._node.devices.libraries.values()
            for each in sorted(inventory.cartridges.values(), key=lambda each: each.barcode)
        ]
        return tapes.TapeShowReply(drives, cartridges)


def _user_id(sock: trio.socket.SocketType) -> int:
    """Who is at the other end of the admin socket."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _log_reply(session_id: int, log: ProtocolLog) -> sessions.LogReply:
    return sessions.LogReply(session_id, log.path, log.filter, log.messages, log.left_out, log.size_bytes, log.is_open)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
