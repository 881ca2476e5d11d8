"""A disk that a test may fail, kill its user at, or switch off: the calls by which a cartridge and its index change.

What a switch-off leaves of what was not yet synced: of the cartridge, its changes up to some point, the last one
perhaps in part; of the directory, the names up to some point; of a file that was never synced, any beginning of it.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from unittest import mock

Fate = Literal["kill", "switch off", "no space", "I/O error"]
_ERRNO = {"no space": errno.ENOSPC, "I/O error": errno.EIO}


class Plan(NamedTuple):
    """What is to happen at which of the next calls, 0 = the first; ``percent`` of a write done, or of changes left."""

    fate: Fate
    step: int
    percent: int


class KilledError(BaseException):
    """The process is dead: nothing that it still does has an effect."""


class Change(NamedTuple):
    """Of the cartridge: bytes written, or the size it was cut to."""

    offset: int
    data: bytes | None


class Named(NamedTuple):
    """A name given to a file with this content, or None taken away."""

    name: str
    content: bytes | None
    synced: bool


class Disk:
    """The cartridge at ``path`` and its directory.

    Attributes:
        fired: what has happened of the plan, None = nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._durable = path.read_bytes()
        self._changes: list[Change] = []
        self._names: dict[str, Named] = {}
        self._renames: list[Named] = []
        self._synced: set[str] = set()
        self._plan: Plan | None = None
        self._dead = False
        self.fired: Plan | None = None

    @contextmanager
    def watched(self, plan: Plan | None = None) -> Iterator[None]:
        """All that is called within goes to this disk, with this plan."""
        self._plan, self.fired, self._dead = plan, None, False
        calls: dict[str, Callable[..., object]] = {
            "pwritev": self._pwritev,
            "pwrite": self._pwrite,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "replace": self._replace,
            "unlink": self._unlink,
            "open": self._open,
        }
        self._real = {name: getattr(os, name) for name in calls}
        with ExitStack() as stack:
            for name, call in calls.items():
                stack.enter_context(mock.patch.object(os, name, call))
            yield

    def switch_off(self, percent: int) -> None:
        """Leave what survives when ``percent`` of what was not synced does."""
        kept = len(self._changes) * percent // 100
        content = bytearray(self._durable)
        for change in self._changes[:kept]:
            _apply(content, change)
        if kept < len(self._changes) and self._changes[kept].data is not None:
            change = self._changes[kept]
            data = change.data or b""
            _apply(content, change._replace(data=data[: len(data) * percent // 100]))
        self._path.write_bytes(content)
        names = dict(self._names)
        for each in self._renames[: len(self._renames) * percent // 100]:
            names[each.name] = each
        for other in self._path.parent.iterdir():
            if other != self._path:
                other.unlink()
        for each in names.values():
            if each.content is not None:
                left = each.content if each.synced else each.content[: len(each.content) * percent // 100]
                Path(each.name).write_bytes(left)
        self._durable, self._changes, self._renames = bytes(content), [], []
        self._names = {name: each._replace(synced=True) for name, each in names.items()}

    def _meets(self) -> Plan | None:
        if self._dead:
            raise KilledError
        plan = self._plan
        if plan is None or plan.step > 0:
            self._plan = plan and plan._replace(step=plan.step - 1)
            return None
        self.fired, self._plan = plan, None
        if plan.fate in {"kill", "switch off"}:
            self._dead = True
        return plan

    def _may_fail(self) -> None:
        """Of calls that happen or do not."""
        plan = self._meets()
        if plan is None:
            return
        if self._dead:
            raise KilledError
        number = _ERRNO[plan.fate]
        raise OSError(number, os.strerror(number))

    def _pwritev(self, fd: int, buffers: Iterable[bytes], offset: int) -> int:
        return self._pwrite(fd, b"".join(buffers), offset)

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        plan = self._meets()
        part = bytes(data) if plan is None else bytes(data[: len(data) * plan.percent // 100])
        if part:
            self._real["pwrite"](fd, part, offset)
            self._changes.append(Change(offset, part))
        if self._dead:
            raise KilledError
        if plan is not None and not part:
            number = _ERRNO[plan.fate]
            raise OSError(number, os.strerror(number))
        if plan is not None and len(part) < len(data):
            self._plan = Plan(plan.fate, 0, 0)  # a write in part says no reason, the next one does
        return len(part)

    def _ftruncate(self, fd: int, size: int) -> None:
        self._may_fail()
        self._real["ftruncate"](fd, size)
        self._changes.append(Change(size, None))

    def _fsync(self, fd: int) -> None:
        self._may_fail()
        name = os.readlink(f"/proc/self/fd/{fd}")
        if name == str(self._path):
            self._durable, self._changes = self._path.read_bytes(), []
        elif name == str(self._path.parent):
            for each in self._renames:
                self._names[each.name] = each
            self._renames = []
        else:
            self._synced.add(name)

    def _replace(self, source: str, target: str) -> None:
        self._may_fail()
        self._renames.append(Named(target, Path(source).read_bytes(), source in self._synced))
        self._synced.discard(source)
        self._real["replace"](source, target)

    def _unlink(self, name: str) -> None:
        self._may_fail()
        self._real["unlink"](name)
        self._renames.append(Named(name, None, synced=True))

    def _open(self, name: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._may_fail()
        found: int = self._real["open"](name, flags, mode)
        return found


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data
