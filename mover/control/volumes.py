"""The path policy: a path that a DMA names lies below a volume, or the request is refused. No file is touched here.

A name is only cut and compared; that it stays below the volume when it is opened is the data worker's part (it
walks beneath the volume's directory, descriptor by descriptor).
"""

import os
from collections.abc import Mapping
from copy import copy
from typing import NamedTuple, Protocol

from mover.control.reach import ALL, Bounds
from mover.control.registry import VolumeKey
from mover.workers.data_messages import Place


class PlacementError(Exception):
    """A path that no volume holds, or that cannot be a path; the text names it."""


class ElsewhereError(PlacementError):
    """A path in a volume that is with another node; the text names both."""


class Whereabouts(Protocol):
    """What knows which volumes are with other nodes; both answers are for people, "" = none."""

    def away(self, key: VolumeKey) -> str: ...

    def elsewhere(self, names: list[bytes], vserver: str | None, bounds: Bounds) -> str: ...


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
    key: VolumeKey

    @property
    def name(self) -> str:
        """As operators call it; of a vserver's: VSERVER/NAME."""
        return str(self.key)


class _Prefix(NamedTuple):
    """A path by which a volume is named."""

    components: list[bytes]
    volume: Volume


class Volumes:
    """The volumes that a control connection reaches: which directories a DMA may name.

    Args:
        directories: of the node: volume name -> directory, absolute.
        vservers: vserver -> the same of its volumes, which also answer to /VSERVER/NAME.
        whereabouts: what is with other nodes of a cluster; None = there are none.
        vserver: that all of these volumes belong to; None = they belong to several, or to none.
    """

    def __init__(
        self,
        directories: Mapping[str, str],
        vservers: Mapping[str, Mapping[str, str]] | None = None,
        whereabouts: Whereabouts | None = None,
        vserver: str | None = None,
    ) -> None:
        self._whereabouts = whereabouts
        self._vserver = vserver
        self._bounds = Bounds()
        self._configured: list[Volume] = []
        self._prefixes: list[_Prefix] = []
        for name, directory in directories.items():
            self._add(Volume(os.fsencode(directory), directory, VolumeKey("", name)))
        for each, volumes in (vservers or {}).items():
            for name, directory in volumes.items():
                volume = Volume(f"/{each}/{name}".encode(), directory, VolumeKey(each, name))
                self._add(volume)
                self._prefixes.append(_Prefix(components(volume.shown), volume))
        # The deepest volume that holds a path is its volume.
        self._prefixes.sort(key=lambda prefix: -len(prefix.components))

    def _add(self, volume: Volume) -> None:
        self._configured.append(volume)
        directory = os.fsencode(volume.directory)
        # Also by the name it has behind symbolic links: people use both.
        for spelling in {directory, os.path.realpath(directory)}:
            self._prefixes.append(_Prefix(components(spelling), volume))

    def within(self, bounds: Bounds) -> "Volumes":
        """Those of them that a user reaches; a path in another one lies in none, also where that is in one of these."""
        if ALL in bounds.volumes:
            return self
        seen = copy(self)
        seen._bounds = bounds
        return seen

    @property
    def listed(self) -> list[Volume]:
        """Those that are reached and with this node now, in the order of the configuration."""
        return [each for each in self._configured if self._bounds.has_volume(each.name) and not self._away(each)]

    def _away(self, volume: Volume) -> str:
        return "" if self._whereabouts is None else self._whereabouts.away(volume.key)

    def place(self, path: bytes) -> Place:
        """Where an absolute path lies.

        Raises:
            ElsewhereError: in a volume that is with another node.
            PlacementError: it is not absolute, climbs, or lies outside every volume.
        """
        if not path.startswith(b"/"):
            raise PlacementError(f"{show(path) or 'an empty path'}: not an absolute path")
        names = components(path)
        for prefix, volume in self._prefixes:
            if names[: len(prefix)] == prefix:
                if not self._bounds.has_volume(volume.name):
                    break
                if away := self._away(volume):
                    raise ElsewhereError(f"{show(path)}: volume {volume.name} is {away}")
                return Place(volume=os.fsencode(volume.directory), path=b"/".join(names[len(prefix) :]))
        if self._whereabouts is not None and (where := self._whereabouts.elsewhere(names, self._vserver, self._bounds)):
            raise ElsewhereError(f"{show(path)}: its volume is {where}")
        raise PlacementError(f"{show(path)}: outside every volume of this server")
