"""Draws histories of a tree and lives through them: what happens between backups of random levels.

A history is a list of rounds. Each is a level and the steps that come before its backup. A step names what it acts upon
by numbers, counted in what is there at that moment, so that any list of steps is a history and shrinks well.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from tests.support.trees import posix_acl

NAMES = [b"a", b"b", b"c", b"d", b"e", b"\xff raw", b"two\nlines", b"n" * 254]
SIZES = [0, 1, 1000, 1024, 3000, 5000]
FILE_MODES = [0o600, 0o644, 0o640, 0o755, 0o444]
DIRECTORY_MODES = [0o700, 0o755, 0o750, 0o1777]
TIMES_S = [0, 1_000_000_000, 1_700_000_000, 2**31 - 1, 2**31 + 5, 2**32 + 7]
LEVELS = st.sampled_from([0, 1, 1, 2, 2, 3, 4, 5, 9, 31])
_MISSING_FEATURE = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


class Step(NamedTuple):
    """One change. ``one`` and ``other`` choose entries or directories, ``value`` a name, size, mode or time."""

    action: str
    one: int
    other: int
    value: int


class Round(NamedTuple):
    """The steps before a backup, and its level."""

    level: int
    steps: list[Step]


History = list[Round]


def chain(history: Sequence[Round], last: int) -> list[int]:
    """Which rounds' backups, in order, make the tree of round ``last``: each is based on the latest lower level."""
    found = [last]
    while history[found[0]].level:
        level = history[found[0]].level
        lower = [place for place in range(found[0]) if history[place].level < level]
        if not lower:
            break  # without a base it is a full backup
        found.insert(0, lower[-1])
    return found


class Life:
    """A tree to which steps happen, and a place beside it, from where things move in and to where they move out.

    Attributes:
        tree: what is backed up.
        outside: on the same file system and not backed up.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Makes ``tree`` and ``outside`` below a directory, which must exist."""
        self.tree = os.path.join(os.fsencode(directory), b"tree")
        self.outside = os.path.join(os.fsencode(directory), b"outside")
        self._made = 0
        for place in (self.tree, self.outside, self.outside + b"/old", self.outside + b"/old/below"):
            os.mkdir(place)
        for name in (b"/old/file", b"/old/below/file"):
            self._write(self.outside + name, 2000)

    def live(self, steps: Sequence[Step]) -> None:
        """All steps in order; one that finds nothing to act upon does nothing."""
        for step in steps:
            _ACTIONS[step.action](self, step)

    def entries(self, wanted: Callable[[int], bool] = lambda mode: True) -> list[bytes]:
        """Paths of what is in the tree, its root not, in an order that depends on names alone."""
        found = []
        for place, directories, files in os.walk(self.tree):
            found += [os.path.join(place, name) for name in directories + files]
        return [path for path in sorted(found) if wanted(os.lstat(path).st_mode)]

    # --- choosing

    def _directory(self, number: int) -> bytes:
        found = [self.tree, *self.entries(stat.S_ISDIR)]
        return found[number % len(found)]

    def _chosen(self, number: int, wanted: Callable[[int], bool] = lambda mode: True) -> bytes | None:
        found = self.entries(wanted)
        return found[number % len(found)] if found else None

    def _place(self, directory: int, name: int) -> bytes:
        return os.path.join(self._directory(directory), NAMES[name % len(NAMES)])

    def _write(self, path: bytes, size: int) -> None:
        self._made += 1
        with open(path, "wb") as file:
            file.write((b"%d " % self._made * size)[:size])

    # --- actions

    def _create(self, step: Step) -> None:
        path = self._place(step.one, step.other)
        if not os.path.lexists(path):
            self._write(path, SIZES[step.value % len(SIZES)])

    def _create_sparse(self, step: Step) -> None:
        path = self._place(step.one, step.other)
        if not os.path.lexists(path):
            self._write(path, 10)
            os.truncate(path, 200_000 + step.value)

    def _make_directory(self, step: Step) -> None:
        path = self._place(step.one, step.other)
        if not os.path.lexists(path) and path.count(b"/") - self.tree.count(b"/") < 6:
            os.mkdir(path)

    def _make_symlink(self, step: Step) -> None:
        path = self._place(step.one, step.other)
        if not os.path.lexists(path):
            os.symlink(b"../" + NAMES[step.value % 5] * (1 + step.value), path)

    def _make_fifo(self, step: Step) -> None:
        path = self._place(step.one, step.other)
        if not os.path.lexists(path):
            os.mkfifo(path, 0o600)

    def _change(self, step: Step) -> None:
        path = self._chosen(step.one, stat.S_ISREG)
        if path is not None:
            os.chmod(path, 0o600)
            self._write(path, SIZES[step.value % len(SIZES)])

    def _cut(self, step: Step) -> None:
        path = self._chosen(step.one, stat.S_ISREG)
        if path is not None:
            os.chmod(path, 0o600)
            os.truncate(path, SIZES[step.value % len(SIZES)])

    def _link(self, step: Step) -> None:
        source = self._chosen(step.one, lambda mode: not stat.S_ISDIR(mode))
        path = self._place(step.other, step.value)
        if source is not None and not os.path.lexists(path):
            os.link(source, path, follow_symlinks=False)

    def _link_across(self, step: Step) -> None:
        """A name more in each of some directories."""
        source = self._chosen(step.one, lambda mode: not stat.S_ISDIR(mode))
        if source is None:
            return
        for number in range(1 + step.value % 3):
            path = self._place(step.other + number, step.value + number)
            if not os.path.lexists(path):
                os.link(source, path, follow_symlinks=False)

    def _remove(self, step: Step) -> None:
        path = self._chosen(step.one)
        if path is not None:
            _remove(path)

    def _rename(self, step: Step) -> None:
        """To another name in the same directory, over what has it already where that is possible."""
        path = self._chosen(step.one)
        if path is not None:
            self._move_to(path, os.path.join(os.path.dirname(path), NAMES[step.value % len(NAMES)]))

    def _move(self, step: Step) -> None:
        path = self._chosen(step.one)
        if path is not None:
            self._move_to(path, self._place(step.other, step.value))

    def _move_to(self, path: bytes, target: bytes) -> None:
        if target == path or (target + b"/").startswith(path + b"/"):
            return
        if os.path.lexists(target):
            kinds = [stat.S_ISDIR(os.lstat(each).st_mode) for each in (path, target)]
            if kinds[0] != kinds[1] or (kinds[1] and os.listdir(target)):
                return
        os.rename(path, target)

    def _move_directory(self, step: Step) -> None:
        """Into another one, by a name of which there is none there yet."""
        path = self._chosen(step.one, stat.S_ISDIR)
        if path is not None:
            target = self._place(step.other, step.value)
            if not os.path.lexists(target):
                self._move_to(path, target)

    def _rename_over(self, step: Step) -> None:
        """Over another entry of its kind, which is gone then."""
        path = self._chosen(step.one)
        if path is not None:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
            other = self._chosen(step.other, lambda mode: stat.S_ISDIR(mode) == is_directory)
            assert other is not None
            self._move_to(path, other)

    def _swap(self, step: Step) -> None:
        one, other = self._chosen(step.one), self._chosen(step.other)
        if (
            one is None
            or other is None
            or (one + b"/").startswith(other + b"/")
            or (other + b"/").startswith(one + b"/")
        ):
            return
        aside = self.outside + b"/aside"
        os.rename(one, aside)
        os.rename(other, one)
        os.rename(aside, other)

    def _replace(self, step: Step) -> None:
        """By an entry of another kind with the same name; file systems like to give it the same inode."""
        path = self._chosen(step.one)
        if path is None:
            return
        kind = os.lstat(path).st_mode
        _remove(path)
        made = step.value % 4
        if made == 0 and not stat.S_ISDIR(kind):
            os.mkdir(path)
        elif made == 1 and not stat.S_ISLNK(kind):
            os.symlink(b"elsewhere", path)
        elif made == 2 and not stat.S_ISFIFO(kind):
            os.mkfifo(path, 0o600)
        else:
            self._write(path, 700)

    def _reuse(self, step: Step) -> None:
        """Something goes, and something else gets its inode at another place, where the file system does that."""
        path = self._chosen(step.one)
        target = self._place(step.other, step.value)
        if path is None or os.path.lexists(target) or target.startswith(path + b"/"):
            return
        _remove(path)
        made = step.value % 3
        if made == 0:
            self._write(target, 800)
        elif made == 1:
            os.mkdir(target)
        else:
            os.symlink(b"elsewhere too", target)

    def _chmod(self, step: Step) -> None:
        path = self._chosen(step.one, lambda mode: not stat.S_ISLNK(mode))
        if path is not None:
            modes = DIRECTORY_MODES if stat.S_ISDIR(os.lstat(path).st_mode) else FILE_MODES
            os.chmod(path, modes[step.value % len(modes)])

    def _chown(self, step: Step) -> None:
        path = self._chosen(step.one)
        if path is not None and os.geteuid() == 0:
            os.chown(path, step.value, 100_000 + step.value, follow_symlinks=False)

    def _set_acl(self, step: Step) -> None:
        path = self._chosen(step.one, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if path is not None:
            acl = posix_acl(1000 + step.value, 5, 100, owner=7)
            _attempt(lambda: os.setxattr(path, "system.posix_acl_access", acl))

    def _set_default_acl(self, step: Step) -> None:
        """What is made in the directory from now on inherits it."""
        path = self._chosen(step.one, stat.S_ISDIR)
        if path is not None:
            acl = posix_acl(1000 + step.value, 5, 100, owner=7)
            _attempt(lambda: os.setxattr(path, "system.posix_acl_default", acl))

    def _remove_acls(self, step: Step) -> None:
        path = self._chosen(step.one, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if path is not None:
            for name in os.listxattr(path):
                if name.startswith("system.posix_acl_"):
                    os.removexattr(path, name)

    def _set_attribute(self, step: Step) -> None:
        path = self._chosen(step.one, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if path is not None and os.access(path, os.W_OK):
            _attempt(lambda: os.setxattr(path, "user.mark", b"%d" % step.value * 20))

    def _remove_attribute(self, step: Step) -> None:
        path = self._chosen(step.one, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if path is not None and os.access(path, os.W_OK) and "user.mark" in os.listxattr(path):
            os.removexattr(path, "user.mark")

    def _touch(self, step: Step) -> None:
        path = self._chosen(step.one)
        if path is not None:
            seconds = TIMES_S[step.value % len(TIMES_S)]
            os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + 5000), follow_symlinks=False)

    def _move_in(self, step: Step) -> None:
        """From outside the tree: what comes along keeps its old times of change."""
        found = sorted(os.listdir(self.outside))
        path = self._place(step.other, step.value)
        if found and not os.path.lexists(path):
            os.rename(os.path.join(self.outside, found[step.one % len(found)]), path)

    def _move_out(self, step: Step) -> None:
        path = self._chosen(step.one)
        if path is not None:
            self._made += 1
            os.rename(path, self.outside + b"/out-%d" % self._made)


def _remove(path: bytes) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _attempt(action: Callable[[], None]) -> None:
    """What a file system may not offer."""
    try:
        action()
    except OSError as error:
        if error.errno not in _MISSING_FEATURE:
            raise


_ACTIONS: dict[str, Callable[[Life, Step], None]] = {
    "create": Life._create,
    "create-sparse": Life._create_sparse,
    "mkdir": Life._make_directory,
    "symlink": Life._make_symlink,
    "fifo": Life._make_fifo,
    "change": Life._change,
    "cut": Life._cut,
    "link": Life._link,
    "link-across": Life._link_across,
    "remove": Life._remove,
    "rename": Life._rename,
    "move": Life._move,
    "move-directory": Life._move_directory,
    "rename-over": Life._rename_over,
    "swap": Life._swap,
    "replace": Life._replace,
    "reuse": Life._reuse,
    "chmod": Life._chmod,
    "chown": Life._chown,
    "acl": Life._set_acl,
    "default-acl": Life._set_default_acl,
    "remove-acls": Life._remove_acls,
    "attribute": Life._set_attribute,
    "remove-attribute": Life._remove_attribute,
    "touch": Life._touch,
    "move-in": Life._move_in,
    "move-out": Life._move_out,
}
ACTIONS = list(_ACTIONS)
_MAKING = ["create", "create", "mkdir", "mkdir", "symlink", "link", "link-across", "create-sparse", "fifo"]


def _steps(actions: list[str], least: int, most: int) -> st.SearchStrategy[list[Step]]:
    number = st.integers(0, 15)
    return st.lists(st.builds(Step, st.sampled_from(actions), number, number, number), min_size=least, max_size=most)


def histories(*, rounds: int = 5, steps: int = 12) -> st.SearchStrategy[History]:
    """Histories that begin with a level 0 of a tree with something in it.

    Args:
        rounds: backups at most, the first included.
        steps: changes at most before each of the others.
    """
    first = st.builds(Round, st.just(0), _steps(_MAKING, 6, 20))
    later = st.builds(Round, LEVELS, _steps(ACTIONS, 0, steps))
    return st.builds(lambda one, more: [one, *more], first, st.lists(later, min_size=1, max_size=rounds - 1))
