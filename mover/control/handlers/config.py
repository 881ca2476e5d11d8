"""CONFIG: what this server is and has. Source: NDMPv4 section 3.2; backup types: messages.md section 5."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import msgspec
import trio

import mover
from mover.control.butypes import BUTYPES
from mover.control.changer import LibraryChanger
from mover.control.device_names import ATTRIBUTES
from mover.control.handlers.connect import offered
from mover.control.refusal import Refusal
from mover.control.volumes import Volume
from mover.ndmp import messages as m
from mover.ndmp.auth import new_challenge
from mover.ndmp.enums import (
    AuthType,
    ErrorCode,
    FsInfoUnsupported,
    TapeAttribute,
)
from mover.ndmp.extensions import CAB
from mover.scsi import Identity

if TYPE_CHECKING:
    from mover.control.connection import Connection
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay

VENDOR: Final = b"mover"
PRODUCT: Final = b"mover NDMP server"
HOST_ID_FILE: Final = "/etc/machine-id"

_TYPE_NAMES: Final = b",".join(BUTYPES)
_REMOTE_FILE_SYSTEMS: Final = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"}


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
    """CONFIG_GET_FS_INFO: the volumes that this connection reaches."""
    volumes = connection.volumes.listed
    infos = await trio.to_thread.run_sync(_fs_infos, volumes, _affinity(connection))
    return m.ConfigGetFsInfoReply(fs_info=tuple(infos))


def _fs_infos(volumes: list[Volume], affinity: tuple[m.Pval, ...]) -> list[m.FsInfo]:
    mounts = _mounts()
    return [_fs_info(volume, mounts, affinity) for volume in volumes]


def _affinity(connection: Connection) -> tuple[m.Pval, ...]:
    """Where a volume or a device is, for a DMA that knows of clusters: equal values are the same node.

    Source: extensions.md 3.5, which does not know NetApp's own name of it.
    """
    if CAB not in connection.protocol.extensions.chosen:
        return ()
    return (m.Pval(b"AFFINITY", connection.config.node.name.encode()),)


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
        m.Pval(b"AVAILABLE_BACKUP", _TYPE_NAMES),
        m.Pval(b"AVAILABLE_RECOVERY", _TYPE_NAMES),
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
        everything = int(
            FsInfoUnsupported.TOTAL_SIZE
            | FsInfoUnsupported.USED_SIZE
            | FsInfoUnsupported.AVAIL_SIZE
            | FsInfoUnsupported.TOTAL_INODES
            | FsInfoUnsupported.USED_INODES
        )
        status = f"offline: {error.strerror}".encode()
        return msgspec.structs.replace(common, unsupported=everything, fs_status=status)
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
    attr = TapeAttribute.RAW if connection.version >= 4 else TapeAttribute(0)
    if connection.reaches_tapes:
        await connection.node.identities.wait()
    return m.ConfigGetTapeInfoReply(
        tape_info=tuple(
            m.DeviceInfo(
                model=_model(bay),
                caplist=tuple(
                    m.DeviceCapability(
                        name.encode(),
                        attr | ATTRIBUTES[at_close],
                        (*_capabilities(bay), *_identity(bay.identity), *_affinity(connection)),
                    )
                    for name, at_close in connection.node.devices.names(bay).items()
                ),
            )
            for bay in connection.node.devices
            if connection.reaches_device(bay.name)
        )
    )


def _capabilities(bay: DriveBay) -> tuple[m.Pval, ...]:
    """Where it takes CDBs, and whether the tape is written compressed: a real drive's own affair."""
    if not bay.real:
        return (m.Pval(b"EXECUTE_CDB", b"b"), m.Pval(b"COMPRESSION", b"1"))
    return (m.Pval(b"EXECUTE_CDB", b"b" if bay.device() is not None else b"n"),)


async def get_scsi_info(connection: Connection, request: m.ConfigGetScsiInfoRequest) -> m.ConfigGetScsiInfoReply:
    """CONFIG_GET_SCSI_INFO: the changers, of the libraries and real ones."""
    devices = connection.node.devices
    if connection.reaches_tapes:
        await connection.node.identities.wait()
    everywhere: list[LibraryChanger | DeviceChanger] = [*devices.changers.values(), *devices.own_changers]
    changers = [each for each in everywhere if connection.reaches_device(each.name)]
    return m.ConfigGetScsiInfoReply(
        scsi_info=tuple(
            m.DeviceInfo(
                model=_model(changer),
                caplist=(m.DeviceCapability(changer.name.encode(), 0, _identity(changer.identity)),),
            )
            for changer in changers
        )
    )


def _model(device: DriveBay | LibraryChanger | DeviceChanger) -> bytes:
    """What it is; of a real one that has not answered, where it should be."""
    spec = None if isinstance(device, LibraryChanger) else device.device()
    if spec is not None and not device.identity.product:
        return spec.device.encode()
    return f"{device.identity.vendor} {device.identity.product}".strip().encode()


def _identity(identity: Identity) -> tuple[m.Pval, ...]:
    """What INQUIRY says, for DMAs that match devices by it. The drafts name no such pairs and leave room for them."""
    pairs = (("VENDOR", identity.vendor), ("PRODUCT", identity.product), ("SERIAL_NUMBER", identity.serial))
    return tuple(m.Pval(name.encode(), value.encode()) for name, value in pairs if value)


async def get_server_info(connection: Connection, request: m.ConfigGetServerInfoRequest) -> m.ConfigGetServerInfoReply:
    """CONFIG_GET_SERVER_INFO; who we are is told only after the login in version 4."""
    methods = offered(connection)
    if connection.version >= 4 and not connection.protocol.authenticated:
        return m.ConfigGetServerInfoReply(auth_type=methods)
    return m.ConfigGetServerInfoReply(
        vendor_name=VENDOR, product_name=PRODUCT, revision_number=mover.__version__.encode(), auth_type=methods
    )
