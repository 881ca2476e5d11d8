"""CONFIG: what this server is and has. Source: NDMPv4 section 3.2; backup types: messages.md section 5."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import trio

import mover
from mover.control.affinity import (
    affinity,
    affinity_of,
    changers_of_others,
    drives_of_others,
    to_bytes,
    volumes_of_others,
)
from mover.control.butypes import BUTYPES
from mover.control.changer import LibraryChanger
from mover.control.cluster import OtherDevice, OtherVolume
from mover.control.device_names import ATTRIBUTES
from mover.control.handlers.connect import offered
from mover.control.looks import look
from mover.control.refusal import Refusal
from mover.control.registry import DeviceRow
from mover.control.volumes import Volume
from mover.ndmp import messages as m
from mover.ndmp.auth import new_challenge
from mover.ndmp.enums import (
    AuthType,
    ErrorCode,
    FsInfoUnsupported,
    TapeAttribute,
)
from mover.scsi import Identity

if TYPE_CHECKING:
    from mover.control.connection import Connection
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay
    from mover.control.node import Node

VENDOR: Final = b"mover"
PRODUCT: Final = b"mover NDMP server"
HOST_ID_FILE: Final = "/etc/machine-id"

_TYPE_NAMES: Final = b",".join(BUTYPES)
_AVAILABLE: Final = (m.Pval(b"AVAILABLE_BACKUP", _TYPE_NAMES), m.Pval(b"AVAILABLE_RECOVERY", _TYPE_NAMES))
_NO_SIZES: Final = (
    FsInfoUnsupported.TOTAL_SIZE
    | FsInfoUnsupported.USED_SIZE
    | FsInfoUnsupported.AVAIL_SIZE
    | FsInfoUnsupported.TOTAL_INODES
    | FsInfoUnsupported.USED_INODES
)
_REMOTE_FILE_SYSTEMS: Final = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"}


log = structlog.get_logger()


async def get_host_info(connection: Connection, request: m.ConfigGetHostInfoRequest) -> m.ConfigGetHostInfoReply:
    """CONFIG_GET_HOST_INFO."""
    system = os.uname()
    return m.ConfigGetHostInfoReply(
        hostname=connection.config.node.name.encode(),
        os_type=system.sysname.encode(),
        os_vers=system.release.encode(),
        hostid=(await trio.to_thread.run_sync(_host_id)).encode(),
        auth_type=offered(connection),
    )


def _host_id() -> str:
    try:
        with open(HOST_ID_FILE, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return socket.gethostname()  # a host without a machine id is told apart by its name


async def get_connection_type(
    connection: Connection, request: m.ConfigGetConnectionTypeRequest
) -> m.ConfigGetConnectionTypeReply:
    """CONFIG_GET_CONNECTION_TYPE, in v2 GET_MOVER_TYPE."""
    return m.ConfigGetConnectionTypeReply(addr_types=connection.address_types)


async def get_auth_attr(connection: Connection, request: m.ConfigGetAuthAttrRequest) -> m.ConfigGetAuthAttrReply:
    """CONFIG_GET_AUTH_ATTR: a new challenge for MD5, good for one login."""
    if request.auth_type not in offered(connection):
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    match request.auth_type:
        case AuthType.MD5:
            connection.challenge = new_challenge()
            return m.ConfigGetAuthAttrReply(server_attr=m.AuthMd5Attr(connection.challenge))
        case AuthType.TEXT:
            return m.ConfigGetAuthAttrReply(server_attr=m.AuthTextAttr())
        case _:
            return m.ConfigGetAuthAttrReply()


async def get_butype_attr(connection: Connection, request: m.ConfigGetButypeAttrRequest) -> m.ConfigGetButypeAttrReply:
    """CONFIG_GET_BUTYPE_ATTR (v2)."""
    butype = BUTYPES.get(request.name)
    if butype is None:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    return m.ConfigGetButypeAttrReply(attrs=butype.attributes)


async def get_butype_info(connection: Connection, request: m.ConfigGetButypeInfoRequest) -> m.ConfigGetButypeInfoReply:
    """CONFIG_GET_BUTYPE_INFO."""
    infos = [
        m.ButypeInfo(name, tuple(m.Pval(*default) for default in butype.defaults), butype.attributes)
        for name, butype in BUTYPES.items()
    ]
    return m.ConfigGetButypeInfoReply(butype_info=tuple(infos))


async def get_fs_info(connection: Connection, request: m.ConfigGetFsInfoRequest) -> m.ConfigGetFsInfoReply:
    """CONFIG_GET_FS_INFO: the volumes that this connection reaches, those of other nodes behind those of this one."""
    await connection.node.cluster.refresh()
    volumes = connection.volumes.listed
    infos = await _fs_infos(volumes, affinity(connection))
    others = [_other_fs_info(connection, other) for other in volumes_of_others(connection)]
    return m.ConfigGetFsInfoReply(fs_info=(*infos, *others))


async def _fs_infos(volumes: list[Volume], affinity: tuple[m.Pval, ...]) -> list[m.FsInfo]:
    """All at once: one that does not answer takes no longer than several."""
    mounts = await trio.to_thread.run_sync(_mounts)
    infos: dict[Volume, m.FsInfo] = {}

    async def ask(volume: Volume) -> None:
        try:
            infos[volume] = await look(volume.directory, _fs_info, volume, mounts, affinity)
        except TimeoutError as error:
            log.warning("volume does not answer", directory=volume.directory)
            infos[volume] = m.FsInfo(
                unsupported=int(_NO_SIZES),
                fs_logical_device=volume.shown,
                fs_env=(*_AVAILABLE, *affinity),
                fs_status=f"offline: {error.strerror}".encode(),
            )

    async with trio.open_nursery() as nursery:
        for volume in volumes:
            nursery.start_soon(ask, volume)
    return [infos[volume] for volume in volumes]


def _other_fs_info(connection: Connection, other: OtherVolume) -> m.FsInfo:
    """A volume of another node: how large it is only that one can tell."""
    state = connection.node.cluster.state(other.node)
    return m.FsInfo(
        unsupported=int(_NO_SIZES),
        fs_type=b"unknown",
        fs_logical_device=to_bytes(other.row.shown),
        fs_env=(*_AVAILABLE, *affinity_of(connection, other.node)),
        fs_status=b"online" if state == "up" else f"offline: node {other.node} is {state}".encode(),
    )


def _mounts() -> list[tuple[str, str, str]]:
    """Mount point, device and type of every mount."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(" ") for line in file]
    return [(row[1].replace("\\040", " "), row[0], row[2]) for row in rows if len(row) > 2]


def _fs_info(volume: Volume, mounts: list[tuple[str, str, str]], affinity: tuple[m.Pval, ...]) -> m.FsInfo:
    directory = volume.directory
    real = os.path.realpath(directory)
    inside = [mount for mount in mounts if real == mount[0] or real.startswith(mount[0].rstrip("/") + "/")]
    device, kind = max(inside, key=lambda mount: len(mount[0]))[1:] if inside else ("", "unknown")
    env = [
        m.Pval(b"LOCAL", b"n" if kind in _REMOTE_FILE_SYSTEMS else b"y"),
        m.Pval(b"TYPE", kind.encode()),
        *_AVAILABLE,
        *affinity,
    ]
    common = m.FsInfo(
        fs_type=kind.encode(),
        fs_logical_device=volume.shown,
        fs_physical_device=os.fsencode(device),
        fs_env=tuple(env),
    )
    try:
        space = os.statvfs(directory)
    except OSError as error:
        status = f"offline: {error.strerror}".encode()
        return msgspec.structs.replace(common, unsupported=int(_NO_SIZES), fs_status=status)
    inodes = 0 if space.f_files else int(FsInfoUnsupported.TOTAL_INODES | FsInfoUnsupported.USED_INODES)
    return msgspec.structs.replace(
        common,
        unsupported=inodes,
        total_size=space.f_blocks * space.f_frsize,
        used_size=(space.f_blocks - space.f_bfree) * space.f_frsize,
        avail_size=space.f_bavail * space.f_frsize,
        total_inodes=space.f_files,
        used_inodes=space.f_files - space.f_ffree,
        fs_status=b"online",
    )


async def get_tape_info(connection: Connection, request: m.ConfigGetTapeInfoRequest) -> m.ConfigGetTapeInfoReply:
    """CONFIG_GET_TAPE_INFO: the drives, where any is reached, each under all its names; they take CDBs by both ways."""
    node = connection.node
    raw = TapeAttribute.RAW if connection.version >= 4 else TapeAttribute(0)
    others: list[OtherDevice] = []
    if connection.reaches_tapes:
        await node.identities.wait()
        await node.cluster.refresh()
        others = drives_of_others(connection)
    own = [device_info(drive_row(node, bay), "", raw, affinity(connection)) for bay in _drives(connection)]
    return m.ConfigGetTapeInfoReply(tape_info=(*own, *(_other_device(connection, each, raw) for each in others)))


def _drives(connection: Connection) -> list[DriveBay]:
    return [bay for bay in connection.node.devices if connection.reaches_device(bay.name)]


def drive_row(node: Node, bay: DriveBay) -> DeviceRow:
    """A drive as CONFIG_GET_TAPE_INFO has it, here and at the other nodes of a cluster."""
    return DeviceRow(
        model=_model(bay),
        names={name: int(ATTRIBUTES[at_close]) for name, at_close in node.devices.names(bay).items()},
        pairs={**_capabilities(bay), **_identity(bay.identity)},
    )


def changer_row(changer: LibraryChanger | DeviceChanger) -> DeviceRow:
    """A changer as CONFIG_GET_SCSI_INFO has it."""
    return DeviceRow(model=_model(changer), names={changer.name: 0}, pairs=_identity(changer.identity))


def _other_device(connection: Connection, other: OtherDevice, attributes: int) -> m.DeviceInfo:
    """A device of another node, by its name as NODE:NAME."""
    return device_info(other.row, f"{other.node}:", attributes, affinity_of(connection, other.node))


def device_info(row: DeviceRow, prefix: str, attributes: int, more: tuple[m.Pval, ...]) -> m.DeviceInfo:
    """A device for CONFIG_GET_TAPE_INFO and CONFIG_GET_SCSI_INFO; ``prefix`` stands before each of its names."""
    pairs = tuple(m.Pval(to_bytes(name), to_bytes(value)) for name, value in row.pairs.items())
    return m.DeviceInfo(
        model=to_bytes(row.model),
        caplist=tuple(
            m.DeviceCapability(to_bytes(prefix + name), attributes | own, (*pairs, *more))
            for name, own in row.names.items()
        ),
    )


def _capabilities(bay: DriveBay) -> dict[str, str]:
    """Where it takes CDBs, and whether the tape is written compressed: a real drive's own affair."""
    if not bay.real:
        return {"EXECUTE_CDB": "b", "COMPRESSION": "1"}
    return {"EXECUTE_CDB": "b" if bay.device() is not None else "n"}


async def get_scsi_info(connection: Connection, request: m.ConfigGetScsiInfoRequest) -> m.ConfigGetScsiInfoReply:
    """CONFIG_GET_SCSI_INFO: the changers, of the libraries and real ones."""
    others: list[OtherDevice] = []
    if connection.reaches_tapes:
        await connection.node.identities.wait()
        await connection.node.cluster.refresh()
        others = changers_of_others(connection)
    own = [
        device_info(changer_row(changer), "", 0, affinity(connection))
        for changer in changers(connection.node)
        if connection.reaches_device(changer.name)
    ]
    return m.ConfigGetScsiInfoReply(scsi_info=(*own, *(_other_device(connection, each, 0) for each in others)))


def changers(node: Node) -> list[LibraryChanger | DeviceChanger]:
    """The changers of this node."""
    return [*node.devices.changers.values(), *node.devices.own_changers]


def _model(device: DriveBay | LibraryChanger | DeviceChanger) -> str:
    """What it is; of a real one that has not answered, where it should be."""
    spec = None if isinstance(device, LibraryChanger) else device.device()
    if spec is not None and not device.identity.product:
        return spec.device
    return f"{device.identity.vendor} {device.identity.product}".strip()


def _identity(identity: Identity) -> dict[str, str]:
    """What INQUIRY says, for DMAs that match devices by it. The drafts name no such pairs and leave room for them."""
    pairs = {"VENDOR": identity.vendor, "PRODUCT": identity.product, "SERIAL_NUMBER": identity.serial}
    return {name: value for name, value in pairs.items() if value}


async def get_server_info(connection: Connection, request: m.ConfigGetServerInfoRequest) -> m.ConfigGetServerInfoReply:
    """CONFIG_GET_SERVER_INFO; who we are is told only after the login in version 4."""
    methods = offered(connection)
    if connection.version >= 4 and not connection.protocol.authenticated:
        return m.ConfigGetServerInfoReply(auth_type=methods)
    return m.ConfigGetServerInfoReply(
        vendor_name=VENDOR, product_name=PRODUCT, revision_number=mover.__version__.encode(), auth_type=methods
    )
