"""What the second writer does with the small files of a dump that are handed over to it: it makes them.

See :mod:`mover.data.second_writer`. The worker has looked at their headers: they are in order, of regular files that
lie in one piece and that this user may make.
"""

import contextlib
import os
from array import array
from struct import Struct
from typing import Final

from mover.data.attribute_writer import OWNER_BITS, give_away
from mover.data.dump_format import OFFSET_SPARE, RECORD_BYTES, TIME_MARK
from mover.data.object_maker import FILE_FLAGS
from mover.data.recover_plan import Plan
from mover.data.tree_writer import TreeWriter, remove

# Of a little-endian header: mode; seconds and microseconds of the times of access and of modification; owner, group;
# the spare word that holds the rest of the times where there is a mark.
_unpack: Final = Struct(f"<32xI12x4I80x3I{OFFSET_SPARE - 156}x{len(TIME_MARK)}s").unpack_from
_BILLION: Final = 1_000_000_000


class SmallFiles:
    """Makes files of a plan."""

    def __init__(self, plan: Plan, writer: TreeWriter) -> None:
        self._plan = plan
        self._writer = writer
        self._place = self._directory = -1

    def make(self, slot: memoryview, files: "array[int]") -> bytes:
        """Make files, each given by where its header is in the slot, its entry in the plan and its size; 1 = made."""
        plan, writer = self._plan, self._writer
        names, places, targets = plan.names, plan.places, plan.targets
        open_file, write, set_times, close = os.open, os.write, os.utime, os.close
        place, directory = self._place, self._directory
        ours = writer.attributes.uid, writer.attributes.gid
        made = bytearray(len(files) // 3)
        numbers = iter(files)
        for number, (at, entry, size) in enumerate(zip(numbers, numbers, numbers, strict=True)):
            mode, accessed_s, accessed_us, modified_s, modified_us, uid, gid, low, mark = _unpack(slot, at)
            given = (uid, gid) != ours
            if mark != TIME_MARK:
                low = 0
            try:
                if places[entry] != place:
                    place = -1
                    directory = writer.descriptor(targets[places[entry]])
                    place = places[entry]
                first_mode = mode & (OWNER_BITS if given else 0o777)
                fd = open_file(names[entry], FILE_FLAGS, first_mode, dir_fd=directory)
            except OSError:
                continue  # the worker meets it again, and reports it
            whole = False
            try:
                body = at + RECORD_BYTES
                whole = not size or write(fd, slot[body : body + size]) == size
                if given:
                    give_away(fd, uid, gid, mode & 0o777)
                set_times(
                    fd,
                    ns=(
                        accessed_s * _BILLION + accessed_us * 1000 + (low & 0x3FF),
                        modified_s * _BILLION + modified_us * 1000 + (low >> 10 & 0x3FF),
                    ),
                )
            except OSError:
                whole = False
            close(fd)
            if whole:
                made[number] = 1
            else:
                with contextlib.suppress(OSError):  # the worker puts a whole one in its place, or reports it
                    remove(directory, names[entry])
        self._place, self._directory = place, directory
        return bytes(made)
