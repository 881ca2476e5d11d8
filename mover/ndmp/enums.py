"""Numbers of the protocol as enums, one per meaning, in wire order.

Where versions disagree the member has version 4's value; `mover.ndmp.edge` maps to and from the others.
Values decoded from the wire stay plain ints (unknown ones must reach the handler), members compare equal to them.
Source: NDMPv4 sections 2 to 4; NDMPv1 to NDMPv3 for what version 4 dropped.
"""

from enum import IntEnum, IntFlag

U32_MAX = 0xFFFF_FFFF
U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
UNBOUNDED = U64_MAX
"""Length of a window or read without an end."""
UNKNOWN_U32 = U32_MAX
"""A supported 32-bit state field whose value is not known now (file_num, blockno)."""
UNKNOWN_U64 = U64_MAX
"""A supported 64-bit field whose value is not known now; as `fh_info`: no direct access; as `node`: unknown."""

HIGHEST_VERSION = 4
"""The highest protocol version this core speaks."""


class ErrorCode(IntEnum):
    """Error of a header or a reply body. Source: NDMPv4 section 2.6."""

    NO_ERR = 0  # success
    NOT_SUPPORTED_ERR = 1  # message, interface or optional feature not offered
    DEVICE_BUSY_ERR = 2  # device open elsewhere, or tape in use by the mover
    DEVICE_OPENED_ERR = 3  # this session already has a device open
    NOT_AUTHORIZED_ERR = 4  # not logged in, login failed, device class not permitted
    PERMISSION_ERR = 5  # open mode does not permit writing
    DEV_NOT_OPEN_ERR = 6  # needs an open tape or SCSI device
    IO_ERR = 7  # device error
    TIMEOUT_ERR = 8  # SCSI command timed out
    ILLEGAL_ARGS_ERR = 9  # argument out of range or unknown name
    NO_TAPE_LOADED_ERR = 10  # drive empty or not ready
    WRITE_PROTECT_ERR = 11  # medium write protected
    EOF_ERR = 12  # filemark met on read
    EOM_ERR = 13  # early warning on write; v4: blank tape on read
    FILE_NOT_FOUND_ERR = 14  # file not found in recovery (LOG_FILE of v2, v3)
    BAD_FILE_ERR = 15  # invalid file descriptor (historic)
    NO_DEVICE_ERR = 16  # no such device
    NO_BUS_ERR = 17  # no such SCSI controller
    XDR_DECODE_ERR = 18  # request could not be decoded
    ILLEGAL_STATE_ERR = 19  # not possible in the present state
    UNDEFINED_ERR = 20  # anything else
    XDR_ENCODE_ERR = 21  # reply could not be encoded
    NO_MEM_ERR = 22  # out of memory
    CONNECT_ERR = 23  # data connection could not be made (v3 on)
    SEQUENCE_NUM_ERR = 24  # wrong sequence number (v4)
    READ_IN_PROGRESS_ERR = 25  # MOVER_READ while one is unfinished (v4)
    PRECONDITION_ERR = 26  # a required earlier request is missing (v4)
    CLASS_NOT_SUPPORTED = 27  # SET_EXT_LIST: class was not offered (v4)
    VERSION_NOT_SUPPORTED = 28  # SET_EXT_LIST: class version was not offered (v4)
    EXT_DUPL_CLASSES = 29  # SET_EXT_LIST: class named twice (v4)
    EXT_DN_ILLEGAL = 30  # extension negotiation not allowed now (v4)


class MessageType(IntEnum):
    """`message_type` of the header."""

    REQUEST = 0  # requests and posts
    REPLY = 1  # replies


class MessageCode(IntEnum):
    """Message numbers of all versions; a number with two names has an alias. Source: NDMPv4 section 3, NDMPv1 2.8."""

    CONFIG_GET_HOST_INFO = 0x100  # host name, operating system
    CONFIG_GET_BUTYPE_ATTR = 0x101  # attributes of one backup type (v1, v2)
    CONFIG_GET_CONNECTION_TYPE = 0x102  # address types of data connections
    CONFIG_GET_MOVER_TYPE = 0x102  # the same in v2
    CONFIG_GET_AUTH_ATTR = 0x103  # challenge for MD5
    CONFIG_GET_BUTYPE_INFO = 0x104  # backup types with attributes and defaults (v3 on)
    CONFIG_GET_FS_INFO = 0x105  # file systems (v3 on)
    CONFIG_GET_TAPE_INFO = 0x106  # tape devices (v3 on)
    CONFIG_GET_SCSI_INFO = 0x107  # changers (v3 on)
    CONFIG_GET_SERVER_INFO = 0x108  # vendor, product, login methods (v3 on)
    CONFIG_SET_EXT_LIST = 0x109  # choose extensions (v4)
    CONFIG_GET_EXT_LIST = 0x10A  # offered extensions (v4)
    SCSI_OPEN = 0x200
    SCSI_CLOSE = 0x201
    SCSI_GET_STATE = 0x202
    SCSI_SET_TARGET = 0x203  # obsolete in v4
    SCSI_RESET_DEVICE = 0x204
    SCSI_RESET_BUS = 0x205  # obsolete in v4
    SCSI_EXECUTE_CDB = 0x206
    TAPE_OPEN = 0x300
    TAPE_CLOSE = 0x301
    TAPE_GET_STATE = 0x302
    TAPE_MTIO = 0x303
    TAPE_WRITE = 0x304
    TAPE_READ = 0x305
    TAPE_SET_RECORD_SIZE = 0x306  # v1
    TAPE_EXECUTE_CDB = 0x307
    DATA_GET_STATE = 0x400
    DATA_START_BACKUP = 0x401
    DATA_START_RECOVER = 0x402
    DATA_ABORT = 0x403
    DATA_GET_ENV = 0x404
    # 0x405 and 0x406 are reserved
    DATA_STOP = 0x407
    DATA_CONTINUE = 0x408  # v1
    DATA_LISTEN = 0x409  # v3 on
    DATA_CONNECT = 0x40A  # v3 on
    DATA_START_RECOVER_FILEHIST = 0x40B  # v4; v2 and v3 as an extension of NDMJOB
    NOTIFY_PAUSED = 0x500  # v1
    NOTIFY_DATA_HALTED = 0x501
    NOTIFY_HALTED = 0x501  # the same in v1
    NOTIFY_CONNECTION_STATUS = 0x502  # first message of every connection
    NOTIFY_CONNECTED = 0x502  # the same before v4
    NOTIFY_MOVER_HALTED = 0x503
    NOTIFY_MOVER_PAUSED = 0x504
    NOTIFY_DATA_READ = 0x505
    LOG_LOG = 0x600  # v1, v2
    LOG_DEBUG = 0x601  # v1, v2
    LOG_FILE = 0x602  # fate of one name of a recover (v2 on; v1 gives it no layout)
    LOG_MESSAGE = 0x603  # v3 on
    FH_ADD_UNIX_PATH = 0x700  # v2
    FH_ADD_UNIX = 0x700  # the same in v1
    FH_ADD_UNIX_DIR = 0x701  # v1, v2
    FH_ADD_UNIX_NODE = 0x702  # v1, v2
    FH_ADD_FILE = 0x703  # v3 on
    FH_ADD_DIR = 0x704  # v3 on
    FH_ADD_NODE = 0x705  # v3 on
    CONNECT_OPEN = 0x900
    CONNECT_CLIENT_AUTH = 0x901
    CONNECT_AUTH = 0x901  # the same in v1
    CONNECT_CLOSE = 0x902  # the one request without a reply
    CONNECT_SERVER_AUTH = 0x903
    MOVER_GET_STATE = 0xA00
    MOVER_LISTEN = 0xA01
    MOVER_CONTINUE = 0xA02
    MOVER_ABORT = 0xA03
    MOVER_STOP = 0xA04
    MOVER_SET_WINDOW = 0xA05
    MOVER_READ = 0xA06
    MOVER_CLOSE = 0xA07
    MOVER_SET_RECORD_SIZE = 0xA08
    MOVER_CONNECT = 0xA09  # v3 on
    CAB_DATA_CONN_PREPARE = 0x2052_0001  # class 2052, NetApp's cluster aware backup (v4)
    TEST_ECHO = 0x7FF0_0000  # class 7ff0, the extension for tests (v4)


class AuthType(IntEnum):
    """Login method."""

    NONE = 0  # no login data
    TEXT = 1  # name and password in clear
    MD5 = 2  # name and digest over password and challenge


class AddressType(IntEnum):
    """Kind of a data connection's address."""

    LOCAL = 0  # the other machine of the same session
    TCP = 1  # TCP over IPv4
    FC = 2  # fibre channel loop (v3; reserved in v4)
    IPC = 3  # a channel of the host's own (v3 on)
    TCP_IPV6 = 0x2051_0004  # TCP over IPv6, of NetApp's extension class 2051


class ConnectionStatusReason(IntEnum):
    """Reason of NOTIFY_CONNECTION_STATUS."""

    CONNECTED = 0  # the server greets and offers a version
    SHUTDOWN = 1  # the server is going down
    REFUSED = 2  # the server cannot take the session


class TapeMode(IntEnum):
    """Mode of TAPE_OPEN."""

    READ = 0  # read only
    RDWR = 1  # read and write (v2: WRITE)
    RAW = 2  # as RDWR, also with no cartridge loaded (v4)


class TapeOperation(IntEnum):
    """Operation of TAPE_MTIO."""

    FSF = 0  # forward over filemarks
    BSF = 1  # back over filemarks
    FSR = 2  # forward over records
    BSR = 3  # back over records
    REW = 4  # rewind
    EOF = 5  # write filemarks
    OFF = 6  # unload
    TUR = 7  # test unit ready (v4)


class TapeFlag(IntFlag):
    """`flags` of TAPE_GET_STATE."""

    NOREWIND = 0x08  # closing does not rewind
    WR_PROT = 0x10  # medium protected
    ERROR = 0x20  # the last operation met a media error
    UNLOAD = 0x40  # medium is ejected on close


class TapeUnsupported(IntFlag):
    """Fields of TAPE_GET_STATE that the server cannot tell (v3: `invalid`)."""

    FILE_NUM = 0x01
    SOFT_ERRORS = 0x02
    BLOCK_SIZE = 0x04
    BLOCKNO = 0x08
    TOTAL_SPACE = 0x10
    SPACE_REMAIN = 0x20
    PARTITION = 0x40  # v3 only


class TapeAttribute(IntFlag):
    """`attr` of a tape device in CONFIG_GET_TAPE_INFO."""

    REWIND = 1  # closing rewinds
    UNLOAD = 2  # closing unloads
    RAW = 4  # can be opened in RAW mode (v4)


class ScsiAttribute(IntFlag):
    """`attr` of a changer in CONFIG_GET_SCSI_INFO (v4)."""

    SHARED_ROBOT = 1  # shared with others, moves may take longer


class CdbFlag(IntFlag):
    """`flags` of EXECUTE_CDB."""

    DATA_IN = 1  # device to host
    DATA_OUT = 2  # host to device


class DataState(IntEnum):
    """State of the DATA machine."""

    IDLE = 0  # nothing set up
    ACTIVE = 1  # an operation runs
    HALTED = 2  # an operation ended; waits for STOP
    LISTEN = 3  # waits for a data connection (v3 on)
    CONNECTED = 4  # has a data connection, no operation yet (v3 on)
    PAUSED = 5  # waits for a change of tape (v1, where it is 2 on the wire)


class DataOperation(IntEnum):
    """Operation of the DATA machine."""

    NOACTION = 0  # none
    BACKUP = 1
    RECOVER = 2
    RECOVER_FILEHIST = 3  # file history out of a backup stream (v4)


class DataPauseReason(IntEnum):
    """Why the DATA machine paused; NA in any other state (v1)."""

    NA = 0  # not paused
    EOM = 1  # end of tape
    EOF = 2  # filemark
    # 3 is reserved


class DataHaltReason(IntEnum):
    """Why the DATA machine halted; NA in any other state."""

    NA = 0  # not halted
    SUCCESSFUL = 1  # the operation is complete
    ABORTED = 2  # DATA_ABORT
    INTERNAL_ERROR = 3  # the operation failed
    CONNECT_ERROR = 4  # the data connection failed (v2 on)
    MEDIA_ERROR = 5  # tape error (v1, where it is 3 on the wire)
    NO_SPLIT = 6  # the tape ended and the type cannot span tapes (v1, where it is 5 on the wire)


class DataUnsupported(IntFlag):
    """Fields of DATA_GET_STATE that the server cannot tell (v3: `invalid`)."""

    EST_BYTES_REMAIN = 1
    EST_TIME_REMAIN = 2


class MoverMode(IntEnum):
    """Direction of the mover, named after what it does with the data connection."""

    READ = 0  # reads the data connection, writes tape (backup)
    WRITE = 1  # reads tape, writes the data connection (recover)
    NOACTION = 2  # none; only in MOVER_GET_STATE of v4

    @property
    def writes_tape(self) -> bool:
        """Whether the tape is written in this mode."""
        return self is MoverMode.READ


class MoverState(IntEnum):
    """State of the MOVER machine."""

    IDLE = 0  # nothing set up
    LISTEN = 1  # waits for a data connection
    ACTIVE = 2  # moves data, or waits for MOVER_READ
    PAUSED = 3  # waits for the DMA: change of tape or of window
    HALTED = 4  # ended; waits for STOP


class MoverPauseReason(IntEnum):
    """Why the mover paused; NA in any other state."""

    NA = 0  # not paused
    EOM = 1  # end of tape
    EOF = 2  # filemark
    SEEK = 3  # wanted offset lies outside the window
    MEDIA_ERROR = 4  # tape error (v2, v3; v4 halts)
    EOW = 5  # window full (v3 on)


class MoverHaltReason(IntEnum):
    """Why the mover halted; NA in any other state."""

    NA = 0  # not halted
    CONNECT_CLOSED = 1  # data connection closed in order
    ABORTED = 2  # MOVER_ABORT
    INTERNAL_ERROR = 3  # the mover failed
    CONNECT_ERROR = 4  # the data connection failed
    MEDIA_ERROR = 5  # tape error (v4; v2, v3 pause)


class LogType(IntEnum):
    """Kind of a LOG_MESSAGE."""

    NORMAL = 0
    DEBUG = 1
    ERROR = 2
    WARNING = 3


class LogLevel(IntEnum):
    """Level of LOG_DEBUG (v1, v2): an audience and a detail."""

    USER_INFO = 0
    USER_SUMMARY = 1
    USER_DETAIL = 2
    DIAG_INFO = 3
    DIAG_SUMMARY = 4
    DIAG_DETAIL = 5
    PROG_INFO = 6
    PROG_SUMMARY = 7
    PROG_DETAIL = 8


class AssociatedMessage(IntEnum):
    """`associated_message_valid` of LOG_MESSAGE (v4)."""

    NO_ASSOCIATED_MESSAGE = 0
    HAS_ASSOCIATED_MESSAGE = 1


class RecoveryStatus(IntEnum):
    """Fate of one nlist entry in LOG_FILE (v4; v2 and v3 carry an error code)."""

    SUCCESSFUL = 0
    FAILED_PERMISSION = 1
    FAILED_NOT_FOUND = 2
    FAILED_NO_DIRECTORY = 3
    FAILED_OUT_OF_MEMORY = 4
    FAILED_IO_ERROR = 5
    FAILED_UNDEFINED_ERROR = 6
    FAILED_FILE_PATH_EXISTS = 7


class FsType(IntEnum):
    """Kind of file system of a name or of attributes in file history."""

    UNIX = 0
    NT = 1
    OTHER = 2


class FileType(IntEnum):
    """Type of an object in file history."""

    DIR = 0
    FIFO = 1
    CSPEC = 2  # character device
    BSPEC = 3  # block device
    REG = 4
    SLINK = 5
    SOCK = 6
    REGISTRY = 7  # v3 on
    OTHER = 8  # v3 on


class FileStatUnsupported(IntFlag):
    """Attributes in file history that the file system lacks (v3: `invalid`)."""

    ATIME = 1
    CTIME = 2
    GROUP = 4


class FsInfoUnsupported(IntFlag):
    """Fields of CONFIG_GET_FS_INFO that the server cannot tell (v3: `invalid`)."""

    TOTAL_SIZE = 0x01
    USED_SIZE = 0x02
    AVAIL_SIZE = 0x04
    TOTAL_INODES = 0x08
    USED_INODES = 0x10


class ButypeAttribute(IntFlag):
    """What a backup type can do (v4's bits; mapped to v2's negative and v3's fewer bits at the edge)."""

    BACKUP_FILELIST = 0x0002  # backup of a list of files
    RECOVER_FILELIST = 0x0004  # selective recover
    BACKUP_DIRECT = 0x0008  # backup yields fh_info
    RECOVER_DIRECT = 0x0010  # recover uses fh_info
    BACKUP_INCREMENTAL = 0x0020
    RECOVER_INCREMENTAL = 0x0040  # an incremental image can be recovered alone
    BACKUP_UTF8 = 0x0080  # history is sent in UTF-8
    RECOVER_UTF8 = 0x0100  # nlist is accepted in UTF-8
    BACKUP_FH_FILE = 0x0200  # path based history
    BACKUP_FH_DIR = 0x0400  # directory and node history
    RECOVER_FILEHIST = 0x0800  # START_RECOVER_FILEHIST works
    RECOVER_FH_FILE = 0x1000  # ... path based
    RECOVER_FH_DIR = 0x2000  # ... directory and node


class ButypeAttributeV3(IntFlag):
    """The one bit of version 3 that version 4 split: history of any form."""

    BACKUP_FILE_HISTORY = 0x0001


class ButypeAttributeV2(IntFlag):
    """What a backup type can NOT do (v1, v2)."""

    NO_BACKUP_FILELIST = 0x01
    NO_BACKUP_FHINFO = 0x02  # no file history
    NO_RECOVER_FILELIST = 0x04
    NO_RECOVER_FHINFO = 0x08  # no direct access recover
    NO_RECOVER_INC_ONLY = 0x20
