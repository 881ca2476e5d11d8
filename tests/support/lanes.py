"""How pytest-xdist (`-n 2` in scripts/test) shares the tests out: whole files, those that take long first."""

import pytest
from xdist.scheduler import LoadFileScheduling

# Their emulated guests want a processor each, and they look into one package, which is built once: one after the other.
_TOGETHER = ("tests/packaging/", "tests/tape/test_st_guest.py")
_FIRST = "the files that take longest"


class Lanes(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A file's tests stay together, because they share its fixtures; so do those of the two emulated guests."""

    def _split_scope(self, nodeid: str) -> str:
        return _FIRST if nodeid.startswith(_TOGETHER) else super()._split_scope(nodeid)


def order(items: list[pytest.Item]) -> None:
    """Sorts the items so that the lanes end at about the same time: files with slow tests come before the others."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: (not item.nodeid.startswith(_TOGETHER), item.path not in slow))
