"""CONFIG messages (01xx) in the internal form. Source: NDMPv4 section 3.2."""

import msgspec

from mover.ndmp.enums import AuthType, ErrorCode
from mover.ndmp.messages.common import AUTH_NONE, AuthAttr, Pval
from mover.ndmp.xdr_types import U16, U32, U64, Body, Enum, String


class ConfigGetHostInfoRequest(Body, frozen=True):
    pass


class ConfigGetHostInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    hostname: String = b""
    os_type: String = b""
    os_vers: String = b""
    hostid: String = b""
    auth_type: tuple[Enum, ...] = ()  # v2 only; GET_SERVER_INFO has it from v3 on


class ConfigGetButypeAttrRequest(Body, frozen=True):
    """Attributes of one backup type (v2)."""

    name: String


class ConfigGetButypeAttrReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    attrs: U32 = 0  # ButypeAttribute; v2's negative bits are made at the edge


class ConfigGetConnectionTypeRequest(Body, frozen=True):
    """Address types of data connections; CONFIG_GET_MOVER_TYPE in v2."""


class ConfigGetConnectionTypeReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    addr_types: tuple[Enum, ...] = ()


class ConfigGetAuthAttrRequest(Body, frozen=True):
    """Ask for the challenge of a login method."""

    auth_type: Enum = AuthType.MD5


class ConfigGetAuthAttrReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    server_attr: AuthAttr = AUTH_NONE


class ButypeInfo(msgspec.Struct, frozen=True):
    """A backup type."""

    butype_name: String
    default_env: tuple[Pval, ...] = ()
    attrs: U32 = 0  # ButypeAttribute


class ConfigGetButypeInfoRequest(Body, frozen=True):
    """Backup types (v3 on)."""


class ConfigGetButypeInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    butype_info: tuple[ButypeInfo, ...] = ()


class FsInfo(msgspec.Struct, frozen=True):
    """A file system; sizes in bytes."""

    unsupported: U32 = 0  # FsInfoUnsupported; v3 name: invalid
    fs_type: String = b""
    fs_logical_device: String = b""
    fs_physical_device: String = b""
    total_size: U64 = 0
    used_size: U64 = 0
    avail_size: U64 = 0
    total_inodes: U64 = 0
    used_inodes: U64 = 0
    fs_env: tuple[Pval, ...] = ()
    fs_status: String = b""


class ConfigGetFsInfoRequest(Body, frozen=True):
    """File systems (v3 on)."""


class ConfigGetFsInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    fs_info: tuple[FsInfo, ...] = ()


class DeviceCapability(msgspec.Struct, frozen=True):
    """One name under which a device can be opened."""

    device: String
    attr: U32 = 0  # TapeAttribute or ScsiAttribute
    capability: tuple[Pval, ...] = ()


class DeviceInfo(msgspec.Struct, frozen=True):
    """A tape drive or changer with its device names."""

    model: String
    caplist: tuple[DeviceCapability, ...] = ()


class ConfigGetTapeInfoRequest(Body, frozen=True):
    """Tape devices (v3 on)."""


class ConfigGetTapeInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    tape_info: tuple[DeviceInfo, ...] = ()


class ConfigGetScsiInfoRequest(Body, frozen=True):
    """Changers (v3 on)."""


class ConfigGetScsiInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    scsi_info: tuple[DeviceInfo, ...] = ()


class ConfigGetServerInfoRequest(Body, frozen=True):
    """Product and login methods (v3 on)."""


class ConfigGetServerInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    vendor_name: String = b""
    product_name: String = b""
    revision_number: String = b""
    auth_type: tuple[Enum, ...] = ()


class SelectedExt(msgspec.Struct, frozen=True):
    """An extension class and the version chosen of it."""

    ext_class_id: U16
    ext_version: U16


class ConfigSetExtListRequest(Body, frozen=True):
    """Choose extensions (v4)."""

    ndmp_selected_ext: tuple[SelectedExt, ...] = ()


class ConfigSetExtListReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ExtClass(msgspec.Struct, frozen=True):
    """An extension class and the versions offered of it."""

    ext_class_id: U16
    ext_version: tuple[U16, ...] = ()


class ConfigGetExtListRequest(Body, frozen=True):
    """Offered extensions (v4)."""


class ConfigGetExtListReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    class_list: tuple[ExtClass, ...] = ()
