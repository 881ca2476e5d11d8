"""The path policy: a path that a DMA names lies below a volume, or the request is refused. No file is touched here.

A name is only cut and compared; that it stays below the volume when it is opened is the data worker's part (it
walks beneath the volume's directory, descriptor by descriptor).
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from mover.workers.messages import Place


class PlacementError(Exception):
    """A path that no volume holds, or that cannot be a path; the text names it."""


def components(path: bytes) -> list[bytes]:
    """The names of a path, ``.`` and empty ones left out.

    Raises:
        PlacementError: it climbs with ``..`` or holds a NUL.
    """
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise PlacementError(f"{show(path)}: a path may not climb with ..")
    if b"\0" in path:
        raise PlacementError(f"{show(path)}: a path may not hold a NUL")
    return names


def show(path: bytes) -> str:
    """A path for people: not valid UTF-8 and control characters as escapes."""
    return "".join(
        char if char.isprintable() else char.encode().decode("latin-1").encode("unicode_escape").decode()
        for char in path.decode("utf-8", "backslashreplace")
    )


class Volume(NamedTuple):
    """A volume as DMAs see it."""

    shown: bytes  # its directory; of a vserver's: /VSERVER/NAME
    directory: str


class Volumes:
    """The volumes that a control connection reaches: which directories a DMA may name.

    Args:
        directories: of the node: volume name -> directory, absolute.
        vservers: vserver -> the same of its volumes, which also answer to /VSERVER/NAME.

    Attributes:
        listed: all of them, in the order of the configuration.
    """

    def __init__(self, directories: Mapping[str, str], vservers: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.listed: list[Volume] = []
        self._volumes: list[tuple[list[bytes], bytes]] = []
        for directory in directories.values():
            self._add(os.fsencode(directory), directory)
        for vserver, volumes in (vservers or {}).items():
            for name, directory in volumes.items():
                shown = f"/{vserver}/{name}".encode()
                self._add(shown, directory)
                self._volumes.append((components(shown), os.fsencode(directory)))
        self._volumes.sort(key=lambda volume: -len(volume[0]))  # the deepest volume that holds a path is its volume

    def _add(self, shown: bytes, directory: str) -> None:
        self.listed.append(Volume(shown, directory))
        # Also by the name it has behind symbolic links: people use both.
        for spelling in {os.fsencode(directory), os.path.realpath(os.fsencode(directory))}:
            self._volumes.append((components(spelling), os.fsencode(directory)))

    def place(self, path: bytes) -> Place:
        """Where an absolute path lies.

        Raises:
            PlacementError: it is not absolute, climbs, or lies outside every volume.
        """
        if not path.startswith(b"/"):
            raise PlacementError(f"{show(path) or 'an empty path'}: not an absolute path")
        names = components(path)
        for prefix, directory in self._volumes:
            if names[: len(prefix)] == prefix:
                return Place(volume=directory, path=b"/".join(names[len(prefix) :]))
        raise PlacementError(f"{show(path)}: outside every volume of this server")
