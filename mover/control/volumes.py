"""The path policy: a path that a DMA names lies below a volume, or the request is refused. No file is touched here.

A name is only cut and compared; that it stays below the volume when it is opened is the data worker's part (it
walks beneath the volume's directory, descriptor by descriptor).
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from mover.control.reach import ALL, Bounds
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
    name: str  # as operators call it; of a vserver's: VSERVER/NAME


class _Prefix(NamedTuple):
    """A path by which a volume is named."""

    components: list[bytes]
    volume: Volume


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
        self._prefixes: list[_Prefix] = []
        for name, directory in directories.items():
            self._add(Volume(os.fsencode(directory), directory, name))
        for vserver, volumes in (vservers or {}).items():
            for name, directory in volumes.items():
                shown = f"/{vserver}/{name}".encode()
                self._add(Volume(shown, directory, f"{vserver}/{name}"))
                self._prefixes.append(_Prefix(components(shown), self.listed[-1]))
        # The deepest volume that holds a path is its volume.
        self._prefixes.sort(key=lambda prefix: -len(prefix.components))

    def _add(self, volume: Volume) -> None:
        self.listed.append(volume)
        # Also by the name it has behind symbolic links: people use both.
        for spelling in {os.fsencode(volume.directory), os.path.realpath(os.fsencode(volume.directory))}:
            self._prefixes.append(_Prefix(components(spelling), volume))

    def within(self, bounds: Bounds) -> "Volumes":
        """Those of them that a user reaches."""
        if ALL in bounds.volumes:
            return self
        reached = Volumes({})  # what is behind symbolic links is known already, and is not looked for again
        reached.listed = [volume for volume in self.listed if bounds.has_volume(volume.name)]
        reached._prefixes = [prefix for prefix in self._prefixes if bounds.has_volume(prefix.volume.name)]
        return reached

    def place(self, path: bytes) -> Place:
        """Where an absolute path lies.

        Raises:
            PlacementError: it is not absolute, climbs, or lies outside every volume.
        """
        if not path.startswith(b"/"):
            raise PlacementError(f"{show(path) or 'an empty path'}: not an absolute path")
        names = components(path)
        for prefix, volume in self._prefixes:
            if names[: len(prefix)] == prefix:
                return Place(volume=os.fsencode(volume.directory), path=b"/".join(names[len(prefix) :]))
        raise PlacementError(f"{show(path)}: outside every volume of this server")
