"""This node among the nodes of its cluster: what the others have, with whom a shared volume is, who is alive.

Theory of operation. A task says every BEAT_S what this node has and reads what the others say. A node is up as long
as its beat is seen to move on: our clock alone is looked at, but for the first sight of a node, where the time that it
has written stands in. What belongs to a node that is down stays listed, as offline. Before a job begins the registry
is read once more, so that a volume that was just moved is known to be elsewhere. Nothing here waits for a shared
directory for longer than READ_S: a thread that hangs in it is left there, and until it comes back what was read last
counts.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
import structlog
import trio

import mover
from mover.config import Config, Lif
from mover.config.values import parse_name
from mover.control.addresses import Endpoint, reachable_endpoint
from mover.control.reach import Bounds
from mover.control.registry import (
    Contents,
    DeviceRow,
    LifRow,
    NodeRecord,
    Registry,
    RegistryError,
    VolumeKey,
    VolumeRow,
)

BEAT_S: Final = 2.0
DOWN_S: Final = 20.0
"""Without a beat for so long a node is down."""
READ_S: Final = 5.0

State = Literal["up", "down", "stopped"]
_T = TypeVar("_T")

log = structlog.get_logger()


class OtherVolume(NamedTuple):
    """A volume that is with another node."""

    row: VolumeRow
    node: str


class OtherDevice(NamedTuple):
    """A drive or changer of another node."""

    row: DeviceRow
    node: str


class Cluster:
    """The cluster as this node sees it.

    Args:
        name: of this node.
        registry: None = there is no cluster, and this is its only node.

    Attributes:
        records: of all nodes, by name.
        error: why the registry was not read last time; "" = it was.
    """

    def __init__(self, name: str, registry: Registry | None = None) -> None:
        self.name = name
        self.registry = registry
        self.records: dict[str, NodeRecord] = {}
        self.error = ""
        self._owners: dict[VolumeKey, str] = {}
        self._shared: frozenset[VolumeKey] = frozenset()
        self._seen: dict[str, tuple[str, int, float]] = {}  # incarnation, beat, when it moved on last
        self._limiter = trio.CapacityLimiter(1)
        self._told: list[str] = []
        self._record = NodeRecord(name=name, incarnation=secrets.token_hex(8), version=mover.__version__)
        self._held = -1
        self._hangs = False
        self._parts: Callable[[], NodeRecord] | None = None

    # --- life

    def configure(self, config: Config) -> None:
        """Take the volumes that are shared."""
        rows = [row for row in volume_rows(config) if row.shared]
        self._shared = frozenset(row.key for row in rows)

    async def join(self) -> None:
        """Be a node of the cluster. Raises OSError, RegistryError, trio.TooSlowError."""
        if self.registry is None:
            return
        try:
            parse_name(self.name)
        except ValueError as error:
            raise RegistryError(f"node.name: expected in a cluster {error}, got {self.name}") from None
        with trio.fail_after(READ_S):
            self._held = await self._in_thread(self.registry.enter)
            self._take(await self._in_thread(self.registry.read))

    async def leave(self) -> None:
        """Say that this node has ended in order."""
        if self.registry is not None and self._held >= 0:
            self._record = msgspec.structs.replace(self._record, stopped=True)
            with trio.CancelScope(shield=True):
                await self._try(self._publish)
            os.close(self._held)
            self._held = -1

    async def beat(self, parts: Callable[[], NodeRecord]) -> None:
        """Say what this node has, claim the shared volumes that nobody has, and look at the others.

        Args:
            parts: LIFs, volumes and devices; the rest of the record is filled in.
        """
        self._parts = parts
        if self.registry is not None:
            self._record = self._now()
            await self._try(self._publish)
            await self.refresh()

    async def beat_on(self, parts: Callable[[], NodeRecord]) -> None:
        """``beat``, again and again."""
        failing = False
        while self.registry is not None:
            await trio.sleep(BEAT_S)
            try:
                await self.beat(parts)
            except Exception:  # whatever others have put there, the jobs of DMAs go on
                if not failing:
                    log.exception("no beat for the cluster")
                failing = True
            else:
                failing = False

    async def refresh(self) -> None:
        """Read the registry; where that fails what was read last still counts."""
        if self.registry is None:
            return
        contents = await self._try(self.registry.read)
        if contents is not None:
            self._take(contents)

    def _now(self) -> NodeRecord:
        """Our record with what we have now."""
        if self._parts is None:
            return self._record
        now = self._parts()
        return msgspec.structs.replace(
            self._record, lifs=now.lifs, volumes=now.volumes, drives=now.drives, changers=now.changers
        )

    def _publish(self) -> None:
        assert self.registry is not None
        record = msgspec.structs.replace(self._record, beat=self._record.beat + 1, written=time.time())
        self._record = record
        self.registry.publish(record)
        if not record.stopped:
            for key in self._shared - self._owners.keys():
                self.registry.claim(key)

    async def _try(self, work: Callable[[], _T]) -> _T | None:
        """What a look at the registry gives; None = nothing, and ``error`` says why."""
        assert self.registry is not None
        if self._hangs and not self._limiter.available_tokens:
            return None  # a thread is still in it
        result, error = None, ""
        try:
            with trio.move_on_after(READ_S) as scope:
                result = await self._in_thread(work)
            self._hangs = scope.cancelled_caught
            if self._hangs:
                error = f"{self.registry.directory}: no answer within {READ_S:g} s"
        except OSError as caught:
            error = f"{caught.filename or self.registry.directory}: {caught.strerror}"
        if error and error != self.error:
            log.warning("registry of the cluster not reached", error=error)
        self.error = error
        return result

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    def _take(self, contents: Contents) -> None:
        now = time.monotonic()
        for name, record in contents.nodes.items():
            before = self._seen.get(name)
            if before is None:
                age = max(0.0, time.time() - record.written)
                self._seen[name] = (record.incarnation, record.beat, now - age)
            elif before[:2] != (record.incarnation, record.beat):
                self._seen[name] = (record.incarnation, record.beat, now)
        # A file that cannot be read now does not make its node vanish.
        self.records = {**self.records, **contents.nodes}
        self._owners = {**self._owners, **contents.owners}
        if contents.errors != self._told:
            self._told = contents.errors
            for line in contents.errors:
                log.warning("registry of the cluster: left out", error=line)

    # --- nodes

    def state(self, node: str) -> State:
        """Whether a node is alive."""
        if node == self.name:
            return "up"
        record, seen = self.records.get(node), self._seen.get(node)
        if record is None or seen is None:
            return "down"
        if record.stopped:
            return "stopped"
        return "up" if time.monotonic() - seen[2] < DOWN_S else "down"

    def silent_s(self, node: str) -> float | None:
        """How long a node has not been seen to live; None = it was never."""
        seen = self._seen.get(node)
        return None if seen is None else max(0.0, time.monotonic() - seen[2])

    def record(self, node: str) -> NodeRecord | None:
        """What a node says of itself."""
        return self._now() if node == self.name else self.records.get(node)

    def endpoint(self, node: str, lif: Lif, local_address: str, *, secure: bool) -> Endpoint | None:
        """Where a DMA that came to one of our LIFs reaches another node, with the same login; None = nowhere."""
        record = self.record(node)
        return None if record is None else reachable_endpoint(record.lifs, lif, local_address, secure=secure)

    # --- what the others have

    def volumes_of_others(self, vserver: str | None) -> list[OtherVolume]:
        """The volumes that are with other nodes.

        Args:
            vserver: of this one; None = of all and of none.
        """
        return [
            OtherVolume(row, name)
            for name, record in sorted(self.records.items())
            if name != self.name
            for row in record.volumes
            if (vserver is None or row.vserver == vserver) and (not row.shared or self._owners.get(row.key) == name)
        ]

    def drives_of_others(self) -> list[OtherDevice]:
        """The drives of other nodes."""
        return self._devices(lambda record: record.drives)

    def changers_of_others(self) -> list[OtherDevice]:
        """The changers of other nodes."""
        return self._devices(lambda record: record.changers)

    def _devices(self, of: Callable[[NodeRecord], Sequence[DeviceRow]]) -> list[OtherDevice]:
        return [
            OtherDevice(row, name)
            for name, record in sorted(self.records.items())
            if name != self.name
            for row in of(record)
        ]

    # --- where something is

    def owner(self, key: VolumeKey) -> str:
        """With which node a shared volume is; "" = nobody has claimed it."""
        return self._owners.get(key, "")

    def away(self, key: VolumeKey) -> str:
        """Where a volume of the configuration is, if not here: for people; "" = here."""
        if key not in self._shared or self.registry is None:
            return ""
        owner = self.owner(key)
        if owner == self.name:
            return ""
        return self._named(owner) if owner else "with no node yet"

    def elsewhere(self, names: list[bytes], vserver: str | None, bounds: Bounds) -> str:
        """Which other node has the volume that a path lies in: for people; "" = none.

        Args:
            names: the path's.
            vserver: as in ``volumes_of_others``.
            bounds: of the user who asks.
        """
        for other in self.volumes_of_others(vserver):
            shown = [name for name in _bytes(other.row.shown).split(b"/") if name]
            if names[: len(shown)] == shown and bounds.has_volume(str(other.row.key)):
                return self._named(other.node)
        return ""

    def device_elsewhere(self, name: str, devices: Iterable[OtherDevice]) -> str:
        """Which other node has a device, by its own name or as ``NODE:NAME``: for people; "" = none."""
        for other in devices:
            if name in {each for own in other.row.names for each in (own, f"{other.node}:{own}")}:
                return self._named(other.node)
        return ""

    def own_name(self, device: str) -> str:
        """The name that a device has here, of ``NODE:NAME``."""
        return device.removeprefix(f"{self.name}:") if self.registry is not None else device

    def _named(self, node: str) -> str:
        state = self.state(node)
        return f"at node {node}" + ("" if state == "up" else f", which is {state}")

    # --- moving

    async def move(self, key: VolumeKey, node: str) -> str:
        """Move a shared volume to a node; returns the node that it was with, "" = none.

        Raises:
            RegistryError: it cannot be; nothing has changed.
        """
        if self.registry is None:
            raise RegistryError("this node is in no cluster (node.cluster_directory)")
        await self.refresh()
        if self.error:
            raise RegistryError(self.error)
        having = {
            name
            for name in {self.name, *self.records}
            if (record := self.record(name)) and any(row.key == key and row.shared for row in record.volumes)
        }
        if not having:
            raise RegistryError(f"no node has {key} among its shared_volumes")
        if self.record(node) is None:
            raise RegistryError(f"there is no node {node} (nodes: {', '.join(sorted({self.name, *self.records}))})")
        if node not in having:
            raise RegistryError(f"node {node} does not have {key} among its shared_volumes")
        if (state := self.state(node)) != "up":
            raise RegistryError(f"node {node} is {state}")
        before, registry = self.owner(key), self.registry
        await self._try(lambda: registry.move(key, node))
        if self.error:
            raise RegistryError(self.error)
        await self.refresh()
        return before


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def volume_rows(config: Config) -> list[VolumeRow]:
    """The volumes of a configuration as the registry has them."""
    rows = [
        VolumeRow(name=name, shown=directory, shared=name in config.node.shared_volumes)
        for name, directory in config.node.volumes.items()
    ]
    rows += [
        VolumeRow(
            vserver=vserver.name, name=name, shown=f"/{vserver.name}/{name}", shared=name in vserver.shared_volumes
        )
        for vserver in config.vserver
        for name in vserver.volumes
    ]
    return rows


def lif_row(lif: Lif, port: int, secure_port: int | None) -> LifRow:
    """A LIF as the registry has it, with the ports that it was given."""
    return LifRow(
        name=lif.name, role=lif.role, address=lif.address, port=port, secure_port=secure_port, vserver=lif.vserver
    )
