"""A cartridge: one SIMH .tap file, its map, and the reads, appends and cuts that a drive makes in it.

The format: a record is a 4-byte little-endian length, the data, a pad byte when the length is odd, and the length
again; a zero word is a filemark; the end of the file is the end of recorded data. Of the other markers an erase gap is
skipped and an end-of-medium marker ends the tape; a record flagged as bad is passed over by motion and refused by a
read; any other marker makes what lies behind it unreadable, and says so.

Source: SIMH magtape representation and handling; design.md section 8.
"""

import ctypes
import errno
import fcntl
import os
import stat
from array import array
from typing import Final

from mover.tape.checksum import UNKNOWN, checksum, checksums, continued, matching
from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.index import Found, Index, read_index, set_aside, write_index
from mover.tape.scan import scan
from mover.tape.tape_map import BAD_RECORD, CLASS_BITS, LENGTH_BITS, TapeMap, extent

RECORDS_PER_CALL: Final = 511  # two buffers a record and one more, below IOV_MAX (1024)
REST_BYTES: Final = 1 << 20  # how much is read at once of what a caller has no room for
PREALLOCATED_BYTES: Final = 64 * 1024 * 1024
_FALLOC_FL_KEEP_SIZE: Final = 1
_TMPFS_MAGIC: Final = 0x01021994
_STATFS_BYTES: Final = 256  # more than struct statfs has; its first word is the type


class CartridgeError(DriveError):
    """A cartridge cannot be opened or used."""


class Cartridge:
    """An open cartridge file.

    Args:
        path: the file.
        writable: open for writing; a last record that a crash has torn here is then cut off, otherwise only ignored.
        exclusive: hold the file alone as long as it is open; an offline reader does not.

    Attributes:
        map: where everything lies.
        kept: what the index says of the last close, None when it is missing or not of this state of the file.
        write_protected: the file has no write permission bit at all (which holds for root too).
        warning: what was found wrong and put right at open, else "".

    Raises:
        CartridgeError: NO_TAPE_LOADED without a file, DEVICE_BUSY when another drive holds it, WRITE_PROTECT,
            PERMISSION, or IO, also of a file that is no cartridge, or of which nothing says that it was torn here.
    """

    def __init__(self, path: str, *, writable: bool, exclusive: bool = True) -> None:
        self.path = path
        self.warning = ""
        self._fd = _open(path, writable=writable)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise CartridgeError(Error.IO, f"{path} is not a cartridge file: not a regular file")
            self.write_protected = not status.st_mode & 0o222
            if writable and self.write_protected:
                raise CartridgeError(Error.WRITE_PROTECT, f"cartridge {path} is write protected: no write permission")
            if exclusive:
                self._lock()
            self.map: TapeMap
            found = read_index(self._fd, path)
            self.kept: Index | None = found.contents if found is not None and found.current else None
            if found is not None and found.current:
                self.map = found.tape
            else:
                self.map, torn = scan(self._fd, status.st_size)
                if found is not None:
                    self.map.take_sums(found.tape)
                self._judge(torn, status.st_size, found, writable=writable)
        except OSError as error:
            os.close(self._fd)
            raise CartridgeError(Error.IO, f"cartridge {path}: {error.strerror}") from error
        except BaseException:
            os.close(self._fd)
            raise
        self._allocated: int | None = self.map.end  # None = no reserving ahead on this file
        self._in_memory = _is_in_memory(self._fd)
        self._writable = writable
        self._changed = False
        self._set_aside = 0  # once it is changed: up to which byte checksums are set aside
        self._broken: OSError | None = None

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CartridgeError(Error.DEVICE_BUSY, f"cartridge {self.path} is in use") from error

    def _judge(self, torn: str, size: int, found: Found | None, *, writable: bool) -> None:
        """What to do about an end that is not whole, or not a tape's; ``found`` is what lay beside it."""
        wrong = torn or self.map.damage
        blank = not self.map.marks and not self.map.last.records
        if wrong and blank and (found is None or not found.own):
            raise CartridgeError(Error.IO, f"{self.path} is no cartridge: {wrong}")
        if torn and writable and (found is None or not found.writing):
            text = f"{torn}, and nothing beside it says that it was written here"
            advice = f"it stays as it is; `truncate -s {self.map.end}` cuts it off"
            raise CartridgeError(Error.IO, f"cartridge {self.path}: {text}: {advice}")
        if torn:
            lost = size - self.map.end
            if writable:
                os.ftruncate(self._fd, self.map.end)
            done = "cut off" if writable else "ignored"
            self.warning = f"cartridge {self.path}: {torn}; its {lost} bytes are {done}"
        elif self.map.damage:
            self.warning = f"cartridge {self.path}: {self.map.damage}; nothing behind it can be read"

    # --- writing, always at the end of recorded data ---------------------------------------------------------

    def cut(self, file_num: int, block: int) -> None:
        """Make this position the end of recorded data, as writing there does on a tape; needed before an append.

        Raises:
            OSError: the file cannot be changed, or what was written before may be lost (see ``sync``), or behind this
                position lies what cannot be read and may be worth more.
        """
        self._check()
        if self.map.at_end(file_num, block):
            if self._changed:
                return
            if self.map.damage:
                raise OSError(errno.EIO, f"{self.map.damage}; to write here would destroy what lies behind it")
        end = self.map.files[file_num].offset(block)
        noted = True
        if not self._changed or end < self._set_aside:
            # Before the change: a crash then leaves no index instead of a wrong one.
            noted = set_aside(self._fd, self.path, self.map.before(file_num, block))
            self._changed, self._set_aside = True, end
        self.map.truncate(file_num, block)
        try:
            os.ftruncate(self._fd, self.map.end)
        except OSError as error:
            self._broken = error
            raise
        self._allocated = self.map.end
        if not noted:  # what went may have made room for it
            set_aside(self._fd, self.path, self.map)

    def append_records(self, view: memoryview, record_size: int) -> tuple[int, OSError | None]:
        """Write all of ``view`` as records of ``record_size`` bytes, without a copy.

        Returns:
            How many records are on tape, and why not all; nothing of the record that failed stays in the file.
        """
        count, size = len(view) // record_size, extent(record_size)
        self._allocate(count * size)
        word = record_size.to_bytes(4, "little")
        tail = b"\0" * (record_size & 1) + word
        joint = tail + word
        done = 0
        while done < count:
            batch = min(count - done, RECORDS_PER_CALL)
            part = view if batch == count else view[done * record_size : (done + batch) * record_size]
            buffers: list[bytes | memoryview] = [word, part, tail]
            if batch > 1:
                buffers = [word]
                for at in range(0, batch * record_size, record_size):
                    buffers += (part[at : at + record_size], joint)
                buffers[-1] = tail
            sums = checksums(part, record_size)
            written, failure = self._write(buffers, batch * size)
            whole = written // size
            if whole:
                self.map.append_records(record_size, whole, sums if whole == batch else sums[:whole])
                done += whole
            if failure is not None:
                self._drop_tail()
                return done, failure
        return done, None

    def append_marks(self, count: int) -> tuple[int, OSError | None]:
        """Write filemarks and make everything durable; how many are written, and why not all."""
        written, failure = self._write([b"\0\0\0\0" * count], 4 * count)
        self.map.append_marks(written // 4)
        if failure is not None:
            self._drop_tail()
        try:
            self.sync()
        except OSError as error:
            return written // 4, error.with_traceback(None)
        return written // 4, failure

    def _write(self, buffers: list[bytes | memoryview], size: int) -> tuple[int, OSError | None]:
        """Write all buffers at the end of data; bytes written, and why not all.

        A call that wrote less than asked does not say why; writing on where it stopped does. An error is returned
        without its traceback, which would keep views of the caller's memory alive.
        """
        try:
            self._check()
            self._check_file()
            written = os.pwritev(self._fd, buffers, self.map.end)
        except OSError as error:
            return 0, error.with_traceback(None)
        if written == size:
            return size, None
        rest = memoryview(b"".join(buffers))  # a copy, of what the file system could not take at once
        while written < size:
            try:
                written += os.pwrite(self._fd, rest[written:], self.map.end + written)
            except OSError as error:
                return written, error.with_traceback(None)
        return size, None

    def _drop_tail(self) -> None:
        """After a failed write: nothing behind the last whole record or mark."""
        self._allocated = None
        if self._broken is not None:
            return  # it is not as we left it: a cut could as well lengthen it
        try:
            os.ftruncate(self._fd, self.map.end)
        except OSError as error:
            self._broken = error  # the caller tells of the write's own error

    def _allocate(self, size: int) -> None:
        """Reserve space ahead without making the file longer (longer zeros would be filemarks to any reader).

        64 MiB at a time make writes to ext4 a quarter faster; on tmpfs they cost a twentieth: pages are made twice.
        """
        if self._in_memory or self._allocated is None or self.map.end + size <= self._allocated:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        length = max(size, PREALLOCATED_BYTES)
        if libc.fallocate(self._fd, _FALLOC_FL_KEEP_SIZE, self.map.end, length) == 0:
            self._allocated = self.map.end + length
        else:
            self._allocated = None  # not on this file system, or not that much left: the writes will tell

    # --- reading ---------------------------------------------------------------------------------------------

    def read_run(self, file_num: int, block: int, view: memoryview, record_size: int) -> int:
        """Read records of exactly ``record_size`` bytes from here on, straight into ``view``, which holds whole ones.

        Returns:
            How many records, 0 when the one here has another size; the run ends before one that has changed.

        Raises:
            CartridgeError: what lies in the file is not what the map says, or the first record has changed.
        """
        file = self.map.files[file_num]
        offset, word, run = file.place(block)
        if word != record_size:
            return 0
        count = min(run, len(view) // record_size, RECORDS_PER_CALL)
        length_word = word.to_bytes(4, "little")
        joint = length_word * 2 if record_size % 2 == 0 else b"\0" + length_word * 2
        found = bytearray(4 + count * len(joint))
        words = memoryview(found)
        buffers: list[memoryview] = [words[:4]]
        for record in range(count):
            at = 4 + record * len(joint)
            buffers += (view[record * record_size : (record + 1) * record_size], words[at : at + len(joint)])
        buffers[-1] = words[4 + (count - 1) * len(joint) : -4]  # no length word of a next record behind the last
        self._read(buffers, offset, count * extent(word))
        if record_size % 2:
            found[4 :: len(joint)] = bytes(count)  # a pad byte may have any value
        if found[:-4] != length_word + (joint * count)[:-4]:
            raise self._differs(offset)
        good = matching(view, record_size, file.sums[block : block + count])
        if not good:
            raise self._altered(file_num, block, offset)
        return good

    def read_record(self, file_num: int, block: int, view: memoryview) -> int:
        """Read the record here into ``view``, as much as fits; returns the record's own length.

        Raises:
            CartridgeError: a record that was written as bad, the file does not fit its map, or the record has changed.
        """
        file = self.map.files[file_num]
        offset, word, _ = file.place(block)
        if word & CLASS_BITS == BAD_RECORD:
            raise CartridgeError(Error.IO, f"cartridge {self.path}: bad record at byte {offset}")
        length = word & LENGTH_BITS
        into = view[:length]
        head, tail = bytearray(4), bytearray(4)
        self._read([memoryview(head), into], offset, 4 + len(into))
        self._read([memoryview(tail)], offset + extent(word) - 4, 4)
        if head != tail or int.from_bytes(head, "little") != word:
            raise self._differs(offset)
        if file.sums[block] != UNKNOWN:
            found = checksum(into)
            for at in range(len(into), length, REST_BYTES):  # what does not fit is held against the checksum too
                rest = bytearray(min(REST_BYTES, length - at))
                self._read([memoryview(rest)], offset + 4 + at, len(rest))
                found = continued(found, rest)
            if found != file.sums[block]:
                raise self._altered(file_num, block, offset)
        return length

    def read_damaged(self, file_num: int, block: int, view: memoryview) -> int:
        """As ``read_record``, of what lies in its place whatever is wrong with that; zeros if it cannot be read."""
        offset, word, _ = self.map.files[file_num].place(block)
        length = word & LENGTH_BITS
        into = view[:length]
        try:
            self._read([into], offset + 4, len(into))
        except CartridgeError:
            into[:] = bytes(len(into))
        return length

    def _read(self, buffers: list[memoryview], offset: int, size: int) -> None:
        try:
            count = os.preadv(self._fd, buffers, offset)
        except OSError as error:
            raise CartridgeError(Error.IO, f"cartridge {self.path} at byte {offset}: {error.strerror}") from error
        if count != size:
            raise self._differs(offset)

    def _differs(self, offset: int) -> CartridgeError:
        return CartridgeError(Error.IO, f"cartridge {self.path}: no whole record at byte {offset}: file was changed")

    def _altered(self, file_num: int, block: int, offset: int) -> CartridgeError:
        where = f"record {block} of tape file {file_num}, at byte {offset}"
        return CartridgeError(Error.IO, f"cartridge {self.path}: {where}, has another checksum than was kept of it")

    def add_sums(self, file_num: int, block: int, sums: "array[int]") -> int:
        """Note checksums, made by a reading, of those of the records from here on that have none; how many."""
        file = self.map.files[file_num]
        added = 0
        for number, each in enumerate(sums, block):
            if file.sums[number] == UNKNOWN:
                file.sums[number] = each
                place = file.place(number)
                self.map.note_later(place.offset, place.offset + extent(place.word))
                added += 1
        return added

    # --- end -------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written durable.

        Raises:
            OSError: it could not be, now or earlier: the kernel tells of a page that it could not write once only, so
                a second fsync that succeeds proves nothing. Writes are refused from then on.
        """
        self._check()
        if self._changed:
            self._check_file()
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._broken = error
            raise

    def _check_file(self) -> None:
        """Raise OSError when somebody else has removed, cut or lengthened the file that we write.

        Without it a backup onto a cartridge that was deleted, or cut in the middle, would end well.
        """
        status = os.fstat(self._fd)
        if not status.st_nlink:
            self._broken = OSError(errno.ENOENT, "the file was removed while it was in use")
        elif status.st_size != self.map.end:
            text = f"the file was changed by somebody else: {status.st_size} bytes and not {self.map.end}"
            self._broken = OSError(errno.EIO, text)
        self._check()

    def _check(self) -> None:
        if self._broken is not None:
            raise OSError(self._broken.errno, self._broken.strerror) from self._broken

    def close(self, position: tuple[int, int], holder: str) -> None:
        """Give reserved space back and close, keeping the index and the position for the next open by ``holder``.

        An index that cannot be written, or whose cartridge may have lost something, is left out: the next open reads
        the cartridge instead and begins at BOT.
        """
        try:
            reserved = self._allocated is not None and self._allocated > self.map.end
            if self._changed and reserved and self._broken is None:
                os.ftruncate(self._fd, self.map.end)
            kept = self.kept is not None and not self._changed
            same = kept and self.kept is not None and (self.kept.position, self.kept.holder) == (position, holder)
            ignored = bool(self.warning) and not self._changed and not self._writable  # the warning must come again
            if not same and not ignored and not self.map.damage and self._broken is None:
                write_index(self._fd, self.path, Index.of(self.map, position, holder))
        finally:
            os.close(self._fd)

    def close_with_sums(self) -> bool:
        """Close an unchanged cartridge and keep its index with the checksums that were added; whether that was done."""
        try:
            os.fsync(self._fd)  # an index says that all of it is on disk
            position, holder = ((0, 0), "") if self.kept is None else (self.kept.position, self.kept.holder)
            return write_index(self._fd, self.path, Index.of(self.map, position, holder))
        except OSError:
            return False
        finally:
            os.close(self._fd)

    def abandon(self) -> None:
        """Close without keeping anything."""
        os.close(self._fd)


def _open(path: str, *, writable: bool) -> int:
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR if writable else os.O_RDONLY)
    try:
        return os.open(path, flags)
    except FileNotFoundError as error:
        raise CartridgeError(Error.NO_TAPE_LOADED, f"cartridge {path} does not exist") from error
    except PermissionError as error:
        raise _refused(path) from error
    except OSError as error:
        raise CartridgeError(Error.IO, f"cartridge {path}: {error.strerror}") from error


def _refused(path: str) -> CartridgeError:
    """An ordinary user meets the missing write bit already here."""
    try:
        protected = not os.stat(path).st_mode & 0o222
    except OSError:
        protected = False  # the directory is closed to us as well
    if protected:
        return CartridgeError(Error.WRITE_PROTECT, f"cartridge {path} is write protected: no write permission")
    return CartridgeError(Error.PERMISSION, f"cartridge {path}: permission denied")


def _is_in_memory(fd: int) -> bool:
    """Whether the file lies on a tmpfs."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    return ctypes.CDLL(None).fstatfs(fd, found) == 0 and ctypes.c_long.from_buffer(found).value == _TMPFS_MAGIC
