"""CDBs to a logical unit of an iSCSI target, through the system's libiscsi; one session, one command at a time.

A session that broke is not made anew: the target would forget where the tape stands and whose turn it is, and say so
only by a unit attention. It stays broken, and the next open begins another. Between commands a thread answers what the
target asks meanwhile: some end a session whose initiator does not answer a NOP-In in time.

Source: RFC 7143; libiscsi's iscsi.h and scsi-lowlevel.h of soname 7.
"""

import ctypes
import functools
import re
import select
import socket
import threading
import time
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_size_t, c_ubyte, c_uint16, c_uint32, c_void_p
from typing import Final, NamedTuple, NoReturn

from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.sense import Key, parse_sense
from mover.tape.transport import Reply, Status, TransportError
from mover.workers.device_messages import DeviceSpec

LIBRARY: Final = "libiscsi.so.7"
PORT: Final = 3260
URL: Final = re.compile(
    r"iscsi://(?:\[(?P<v6>[0-9a-fA-F:.]{2,45})\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252}))(?::(?P<port>\d{1,5}))?"
    r"/(?P<target>[a-z0-9][a-zA-Z0-9.:_-]{0,222})/(?P<lun>\d{1,5})"
)
INITIATOR: Final = "iqn.2026-11.local.mover:"  # and the host's name; nobody else can own a name below .local
LUN_MAX: Final = 16_383  # the most that flat addressing has, SAM-5 4.7
CONNECT_S: Final = 30
SYN_COUNT: Final = 4  # tries of a connection: about 30 s
CDB_BYTES_MAX: Final = 16  # the library copies as many as it is told to into as many
IDLE_S: Final = 5.0  # targets wait 15 s and longer for the answer to a NOP-In
ATTENTIONS_MAX: Final = 8  # unit attentions that a device may have queued for a new session
TEST_UNIT_READY: Final = bytes(6)

_NORMAL_SESSION: Final = 2
NO_DATA, IN, OUT = 0, 1, 2
_UNDERFLOW: Final = 1
_TIMED_OUT: Final = 0x0F00_0002
_NO_ANSWER: Final = 0x0F00_0000  # from here on a status is the library's own


class _Sense(Structure):
    _fields_ = (
        ("error_type", c_ubyte),
        ("key", c_int),
        ("ascq", c_int),
        ("flags", c_ubyte),  # three bit fields
        ("bit_pointer", c_ubyte),
        ("field_pointer", c_uint16),
    )


class _Data(Structure):
    _fields_ = (("size", c_int), ("data", c_void_p))


class Vector(Structure):
    """An area of memory, struct scsi_iovec."""

    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Vectors(Structure):
    _fields_ = (
        ("vectors", POINTER(Vector)),
        ("count", c_int),
        ("allocated", c_int),
        ("offset", c_size_t),
        ("consumed", c_int),
    )


class _Task(Structure):
    _fields_ = (
        ("status", c_int),
        ("cdb_size", c_int),
        ("direction", c_int),
        ("expected", c_int),
        ("cdb", c_ubyte * CDB_BYTES_MAX),
        ("residual_status", c_int),
        ("residual", c_size_t),
        ("sense", _Sense),
        ("data_in", _Data),
        ("memory", c_void_p),
        ("private", c_void_p),
        ("itt", c_uint32),
        ("cmdsn", c_uint32),
        ("lun", c_uint32),
        ("vectors_in", _Vectors),
        ("vectors_out", _Vectors),
    )


_FUNCTIONS: Final[dict[str, tuple[object, tuple[object, ...]]]] = {
    "iscsi_create_context": (c_void_p, (c_char_p,)),
    "iscsi_destroy_context": (c_int, (c_void_p,)),
    "iscsi_set_targetname": (c_int, (c_void_p, c_char_p)),
    "iscsi_set_session_type": (c_int, (c_void_p, c_int)),
    "iscsi_set_noautoreconnect": (None, (c_void_p, c_int)),
    "iscsi_set_timeout": (c_int, (c_void_p, c_int)),
    "iscsi_set_tcp_syncnt": (None, (c_void_p, c_int)),
    "iscsi_set_initiator_username_pwd": (c_int, (c_void_p, c_char_p, c_char_p)),
    "iscsi_connect_sync": (c_int, (c_void_p, c_char_p)),
    "iscsi_login_sync": (c_int, (c_void_p,)),
    "iscsi_logout_sync": (c_int, (c_void_p,)),
    "iscsi_get_error": (c_char_p, (c_void_p,)),
    "iscsi_get_fd": (c_int, (c_void_p,)),
    "iscsi_service": (c_int, (c_void_p, c_int)),
    "scsi_create_task": (POINTER(_Task), (c_int, c_char_p, c_int, c_int)),
    "scsi_free_scsi_task": (None, (POINTER(_Task),)),
    "scsi_task_set_iov_in": (None, (POINTER(_Task), POINTER(Vector), c_int)),
    "scsi_task_set_iov_out": (None, (POINTER(_Task), POINTER(Vector), c_int)),
    "iscsi_scsi_command_sync": (POINTER(_Task), (c_void_p, c_int, POINTER(_Task), c_void_p)),
}
"""Name -> result and arguments; the library is not asked for any other function."""


class Address(NamedTuple):
    """A logical unit, taken from its URL."""

    host: str
    port: int
    target: str
    lun: int


def parse_url(url: str) -> Address:
    """Take ``iscsi://host[:port]/target/lun`` apart; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is no such URL.
    """
    match = URL.fullmatch(url)
    if match is None:
        raise ValueError(f"expected iscsi://host[:port]/target/lun, got {url!r}")
    port, lun = int(match["port"] or PORT), int(match["lun"])
    if not 0 < port < 65_536 or lun > LUN_MAX:
        raise ValueError(f"expected a port of 1 to 65535 and a lun of 0 to {LUN_MAX}, got {url!r}")
    return Address(match["v6"] or match["host"], port, match["target"], lun)


def prepare(device: str) -> tuple[int, ...]:
    """Do what a confined worker cannot any more: load the library, look the host up. Returns the ports to connect to.

    What fails is told by the transport as it is opened.
    """
    try:
        address = parse_url(device)
    except ValueError:
        return ()
    _library()
    _portal(address.host, address.port)
    return (address.port,)


@functools.cache
def _library() -> ctypes.CDLL | DriveError:
    """libiscsi with its functions declared, or why not; loaded once."""
    try:
        library = ctypes.CDLL(LIBRARY)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return DriveError(Error.IO, f"iSCSI needs {LIBRARY} (Debian: libiscsi7): {error}")
    return library


@functools.cache
def _portal(host: str, port: int) -> str | DriveError:
    """The portal as an address that libiscsi takes, or why there is none; looked up once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return DriveError(Error.IO, f"iSCSI target {host}: {error.strerror or error}")
    family, _, _, _, address = found[0]
    return f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"


class IscsiTransport:
    """A session with the target of ``spec``, and the way to its logical unit; see Transport.

    Attributes:
        library, context: libiscsi and its session.
        broken: why no command goes through any more; "" = one does.

    Raises:
        DriveError: it cannot be opened; PERMISSION where the target refuses who we are.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        try:
            address = parse_url(spec.device)
        except ValueError as error:
            raise DriveError(Error.ILLEGAL_ARGS, f"{spec.name}: {error}") from error
        library, portal = _library(), _portal(address.host, address.port)
        for failure in (library, portal):
            if isinstance(failure, DriveError):
                raise DriveError(failure.error, f"{spec.name}: {failure}")
        assert isinstance(library, ctypes.CDLL)
        assert isinstance(portal, str)
        self.library = library
        self._name = f"{spec.name} ({spec.device})"
        self._lun = address.lun
        self.broken = ""
        initiator = INITIATOR + re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower())
        self.context: int | None = self.library.iscsi_create_context(initiator.encode())
        if self.context is None:
            raise DriveError(Error.IO, f"{self._name}: no memory for a session")
        try:
            self._log_in(spec, address, portal)
        except BaseException:
            self.library.iscsi_destroy_context(self.context)
            raise
        self._lock = threading.Lock()
        self._last_used = time.monotonic()
        self._closing = threading.Event()
        self._answering = threading.Thread(target=self._answer_target, name="iscsi-idle", daemon=True)
        self._answering.start()
        try:
            self._take_attentions()
        except TransportError as error:
            self.close()
            raise DriveError(Error.IO, str(error)) from error

    def _log_in(self, spec: DeviceSpec, address: Address, portal: str) -> None:
        library, context = self.library, self.context
        library.iscsi_set_targetname(context, address.target.encode())
        library.iscsi_set_session_type(context, _NORMAL_SESSION)
        library.iscsi_set_noautoreconnect(context, 1)
        library.iscsi_set_timeout(context, CONNECT_S)
        library.iscsi_set_tcp_syncnt(context, SYN_COUNT)
        if spec.chap_user:
            library.iscsi_set_initiator_username_pwd(context, spec.chap_user.encode(), spec.chap_secret.encode())
        if library.iscsi_connect_sync(context, portal.encode()) != 0:
            raise DriveError(Error.IO, f"{self._name}: no connection to {portal}")
        if library.iscsi_login_sync(context) != 0:
            text = self._error()
            # RFC 7143 11.13.5, status class 2: 01 authentication failure, 02 authorization failure
            refused = "authenticat" in text.lower() or "authoriz" in text.lower()
            raise DriveError(Error.PERMISSION if refused else Error.IO, f"{self._name}: login: {text}")

    def _take_attentions(self) -> None:
        """The unit attentions that a new session begins with: power on, reset, what happened before (SAM-5 5.14)."""
        for _ in range(ATTENTIONS_MAX):
            reply = self.execute(TEST_UNIT_READY, timeout_s=CONNECT_S)
            sense = parse_sense(reply.sense)
            if reply.status != Status.CHECK_CONDITION or sense is None or sense.key is not Key.UNIT_ATTENTION:
                return

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """See Transport.execute; a time limit is kept to a second or two."""
        length = len(data) if data is not None else 0
        if not 0 < len(cdb) <= CDB_BYTES_MAX:
            raise TransportError(f"{self._name}: a CDB of {len(cdb)} bytes, at most {CDB_BYTES_MAX}")
        if data is not None and writes and data.readonly:
            data = memoryview(bytearray(data))  # ctypes takes the address of what can be written only
        direction = NO_DATA if not length else OUT if writes else IN
        with self._lock:
            if self.context is None or self.broken:
                raise TransportError(self.broken or f"{self._name}: closed")
            task = self.library.scsi_create_task(len(cdb), cdb, direction, length)
            if not task:
                raise MemoryError
            try:
                if data is not None and length:
                    memory = c_char.from_buffer(data)
                    vector = Vector(ctypes.addressof(memory), length)
                    set_vector = self.library.scsi_task_set_iov_out if writes else self.library.scsi_task_set_iov_in
                    set_vector(task, byref(vector), 1)
                self.library.iscsi_set_timeout(self.context, max(1, int(timeout_s)))
                answered = self.library.iscsi_scsi_command_sync(self.context, self._lun, task, None)
                if not answered:
                    task = None  # whose it is now the library does not say: it stays
                    self._lose("the session with the target is lost")
                return self._reply(answered.contents, length, timeout_s)
            finally:
                self._last_used = time.monotonic()
                if task:
                    self.library.scsi_free_scsi_task(task)

    def _lose(self, why: str, *, timed_out: bool = False) -> NoReturn:
        # What the library says last may be of another command, long ago: it is not told.
        self.broken = f"{self._name}: {why}"
        raise TransportError(self.broken, timed_out=timed_out)

    def _reply(self, task: _Task, length: int, timeout_s: float) -> Reply:
        if task.status == _TIMED_OUT:
            self._lose(f"no answer within {timeout_s:.0f} s", timed_out=True)
        if task.status >= _NO_ANSWER:
            self._lose("the session with the target is lost")
        sense = b""
        if task.status == Status.CHECK_CONDITION and task.data_in.data and task.data_in.size > 2:
            # RFC 7143 11.4.7.2: the length of the sense data is before it.
            sense = ctypes.string_at(task.data_in.data, min(task.data_in.size, 254))
            sense = sense[2 : 2 + int.from_bytes(sense[:2])]
        left = task.residual if task.residual_status == _UNDERFLOW else 0
        return Reply(task.status, sense, max(0, length - left))

    def _answer_target(self) -> None:
        """Let the library take what the target sent, while nobody has a command under way."""
        while not self._closing.wait(IDLE_S):
            if time.monotonic() - self._last_used < IDLE_S or not self._lock.acquire(blocking=False):
                continue
            try:
                if self.context is not None and not self.broken:
                    self._take_what_came()
            finally:
                self._lock.release()

    def _take_what_came(self) -> None:
        poller = select.poll()
        poller.register(self.library.iscsi_get_fd(self.context), select.POLLIN)
        for _ in range(64):
            ready = poller.poll(0)
            if not ready:
                break
            if self.library.iscsi_service(self.context, ready[0][1]) != 0 or ready[0][1] & ~select.POLLIN:
                self.broken = f"{self._name}: the session with the target is lost"
                break

    def _error(self) -> str:
        text: bytes | None = self.library.iscsi_get_error(self.context)
        return (text or b"").decode("utf-8", "replace").strip() or "no reason given"

    def close(self) -> None:
        """See Transport.close."""
        with self._lock:
            context, self.context = self.context, None
            if context is None:
                return
            self._closing.set()
            if not self.broken:
                self.library.iscsi_set_timeout(context, 5)
                self.library.iscsi_logout_sync(context)
            self.library.iscsi_destroy_context(context)
        self._answering.join()
