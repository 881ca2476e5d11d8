"""The drives of this node and their leases: one connection at a time has a drive open."""

import errno
import hashlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import structlog
import trio

import mover
from mover import scsi
from mover.config import Config, Drive, Fault, Library
from mover.control import st_nodes
from mover.control.cartridges import Cartridge, InventoryError, is_protected
from mover.control.changer import LibraryChanger
from mover.control.deadlines import DriveKind
from mover.control.device_changer import DeviceChanger
from mover.control.device_names import AtClose, device_names
from mover.control.durable import make_file
from mover.control.hung import describe_hung
from mover.control.inventory import LibraryInventory
from mover.control.looks import look
from mover.control.store import Store
from mover.control.unflushed import Unflushed
from mover.workers.device_messages import DeviceSpec
from mover.workers.tape_messages import DriveFault, DriveSpec

log = structlog.get_logger()

DriveState = Literal["empty", "loaded", "ejected", "in-use", "closed", "hung"]

DRIVE_BUFFER_BYTES: Final = 1 << 20  # of a slow drive, where its fault does not say
REVISION: Final = mover.__version__[:4]


def _serial(node: str, name: str) -> str:
    """A serial number that stays with the device's name, and that no other node's device has."""
    return hashlib.sha256(f"{node}\0{name}".encode("utf-8", "backslashreplace")).hexdigest()[:10].upper()


class DriveBay(ABC):
    """One drive: what is in it and who has it.

    Args:
        unflushed: the node's cartridges that were not flushed, shared by its drives.
        node: the node's name.

    Attributes:
        kind: what its worker drives.
        timeout_s: how long it may take for anything, in the place of the table's rows; None = as the table says.
        hung_since: it does not answer, and nobody gets it; seconds since 1970, None = it is well.
        session_id: the connection that has it open; None = nobody.
        moves: loads and unloads that are under way; while there are any the drive cannot be opened.
        ring_bytes: size of the data rings of its jobs.
        watermarks: percent of the ring's slots at which it goes on, and at which it stops.
        identity: what its INQUIRY says.
        loading: names the present loading: a cartridge that is loaded anew stands at BOT, one that is only closed
            and opened again stands where it stood. A restart of the server counts as a loading.
        faults: what it rehearses when it is opened next; virtual drives only.
    """

    kind: DriveKind = "virtual"
    timeout_s: float | None = None
    hung_since: float | None = None

    def __init__(self, name: str, ring_bytes: int, unflushed: Unflushed, node: str) -> None:
        self.name = name
        self.identity = scsi.Identity("VIRTUAL DRIVE", REVISION, _serial(node, name), scsi.TAPE_DRIVE, scsi.SSC_4)
        self.ring_bytes = ring_bytes
        self.watermarks = (0, 0)
        self.session_id: int | None = None
        self.moves = 0
        self.loading = secrets.token_hex(8)
        self.faults: tuple[DriveFault, ...] = ()
        self._unflushed = unflushed

    @property
    def library(self) -> str:
        """The library it stands in; "" for a drive of its own."""
        return ""

    @property
    def real(self) -> bool:
        """Whether it is hardware."""
        return self.kind != "virtual"

    @property
    def state(self) -> DriveState:
        """What operators are told of it."""
        if self.hung_since is not None:
            return "hung"
        if self.session_id is not None:
            return "in-use"
        if self.real:
            return "closed"
        if self.path is not None:
            return "loaded"
        return "ejected" if self.ejected else "empty"

    @property
    def barcode(self) -> str:
        """Of the cartridge in it; "" = none or unknown."""
        return ""

    @property
    @abstractmethod
    def path(self) -> str | None:
        """The cartridge file; None = empty."""

    def write_protected(self) -> bool:
        """Whether the cartridge in it may not be written. Blocks."""
        path = self.path
        return path is not None and is_protected(path)

    @property
    def unflushed(self) -> bool:
        """Whether the cartridge in it may have lost what was written last, should this host crash now.

        Of one that was not opened since the start it blocks.
        """
        return self._unflushed.holds(self.path)

    async def is_opened(self) -> None:
        """A worker is about to open it. Raises OSError: where its cartridge lies nothing answers."""
        path = self.path
        if path is not None:
            unflushed = await look(os.path.dirname(path), self._unflushed.holds, path)
            self._unflushed.open(path, unflushed=unflushed)

    def was_closed(self) -> None:
        """Its worker has closed it: all that was ever written to the cartridge is on disk."""
        if self.path is not None:
            self._unflushed.close(self.path)

    def was_lost(self, *, written: bool) -> None:
        """Its worker is gone with the drive open: where the tape stands nobody knows, so it is wound to BOT.

        Args:
            written: the drive was open for writing.
        """
        self.loading = secrets.token_hex(8)
        if written and self.path is not None:
            self._unflushed.lose(self.path)

    def device(self) -> DeviceSpec | None:
        """How a worker has CDBs done by a real drive; None = it is a virtual one, or has no way for them."""
        return None

    @abstractmethod
    def spec(self) -> DriveSpec | DeviceSpec:
        """The drive as its worker needs to know it."""

    @property
    @abstractmethod
    def ejected(self) -> bool:
        """Whether there is a cartridge in it that is not threaded; ``path`` is None then."""

    @abstractmethod
    def eject(self) -> None:
        """Unload the tape; the cartridge stays in the drive until the robot or an operator takes it."""

    @abstractmethod
    def thread(self) -> None:
        """Load what was ejected, or is in it, anew."""

    @abstractmethod
    async def load(self, barcode: str | None) -> str:
        """Put a cartridge in; returns its barcode or path. Raises InventoryError."""

    @abstractmethod
    async def unload(self) -> str:
        """Take the cartridge out; returns its barcode or path. Raises InventoryError."""

    @contextmanager
    def moving(self) -> Iterator[None]:
        """A cartridge is put in or taken out: nobody opens the drive meanwhile.

        Raises:
            InventoryError: a connection has it open, or it hangs.
        """
        if self.hung_since is not None:
            raise InventoryError("busy", describe_hung(self))
        if self.session_id is not None:
            raise InventoryError("busy", f"{self.name} is open in session {self.session_id}", "drive-open")
        self.moves += 1
        try:
            yield
        finally:
            self.moves -= 1


class LibraryDrive(DriveBay):
    """A drive of a virtual library."""

    def __init__(self, changer: LibraryChanger, number: int, ring_bytes: int, unflushed: Unflushed, node: str) -> None:
        super().__init__(f"{changer.inventory.library.name}/drive{number}", ring_bytes, unflushed, node)
        self._changer = changer
        self._inventory = changer.inventory
        self._number = number

    @property
    def library(self) -> str:
        return self._inventory.library.name

    @property
    def cartridge(self) -> Cartridge | None:
        """What is in it, also when it was ejected."""
        return self._inventory.in_drive(self._number)

    @property
    def barcode(self) -> str:
        return self.cartridge.barcode if self.cartridge is not None else ""

    @property
    def path(self) -> str | None:
        cartridge = self.cartridge
        return cartridge.path if cartridge is not None and not cartridge.ejected else None

    @property
    def ejected(self) -> bool:
        return self.cartridge is not None and self.cartridge.ejected

    def spec(self) -> DriveSpec:
        library = self._inventory.library
        loading = self.loading + (self.cartridge.loading if self.cartridge is not None else "")
        return DriveSpec(self.name, self.path, library.cartridge_size, library.early_warning, loading, self.faults)

    async def load(self, barcode: str | None) -> str:
        self._changer.audit_operator()
        cartridge = await self._inventory.load(self._number, barcode)
        self._changer.changed_by_operator()
        return cartridge.barcode

    async def unload(self) -> str:
        self._changer.audit_operator()
        cartridge = await self._inventory.unload(self._number)
        self._changer.changed_by_operator()
        return cartridge.barcode

    def eject(self) -> None:
        assert self.cartridge is not None, "the drive was loaded"
        self.cartridge.ejected = True

    def thread(self) -> None:
        assert self.cartridge is not None, "there is a cartridge in the drive"
        self._inventory.thread(self.cartridge)


class FileDrive(DriveBay):
    """A virtual drive of its own, whose only cartridge is one file."""

    def __init__(self, drive: Drive, path: str, ring_bytes: int, unflushed: Unflushed, node: str) -> None:
        super().__init__(drive.name, ring_bytes, unflushed, node)
        self._drive = drive
        self._path = path
        self._loaded = True

    @property
    def path(self) -> str | None:
        return self._path if self._loaded else None

    def spec(self) -> DriveSpec:
        drive = self._drive
        return DriveSpec(self.name, self.path, drive.cartridge_size, drive.early_warning, self.loading, self.faults)

    def make_cartridge(self) -> None:
        """Make the file, empty, when it is not there yet. Raises OSError."""
        make_file(self._path, exclusive=False)

    @property
    def ejected(self) -> bool:
        return not self._loaded

    def eject(self) -> None:
        self._loaded = False

    def thread(self) -> None:
        self._loaded = True
        self.loading = secrets.token_hex(8)

    async def load(self, barcode: str | None) -> str:
        if barcode is not None:
            raise InventoryError("bad-request", f"{self.name} has the one cartridge {self._path} and no barcodes")
        if self._loaded:
            raise InventoryError("busy", f"{self.name} already holds {self._path}")
        self.thread()
        return self._path

    async def unload(self) -> str:
        if not self._loaded:
            raise InventoryError("refused", f"{self.name} is empty")
        self.eject()
        return self._path


class DeviceDrive(DriveBay):
    """A real drive. What is in it is known to who opens it; where it names a cartridge, that is the device."""

    def __init__(self, drive: Drive, ring_bytes: int, unflushed: Unflushed, node: str) -> None:
        super().__init__(drive.name, ring_bytes, unflushed, node)
        self.kind = "st" if drive.device.startswith("/") else "iscsi"
        self.timeout_s = drive.timeout_s
        self.identity = scsi.Identity("", "", "", scsi.TAPE_DRIVE, 0, vendor="")  # until it has answered
        self._spec = DeviceSpec(
            drive.name,
            drive.device,
            chap_user=drive.chap_user,
            chap_secret=drive.chap_secret.reveal(),
            block_size=drive.block_size,
            timeout_s=drive.timeout_s or 0,
        )

    @property
    def path(self) -> str:
        return self._spec.device

    def write_protected(self) -> bool:
        """Not known before it is opened."""
        return False

    @property
    def unflushed(self) -> bool:
        """What a real drive had not put on tape is gone with its power, and not with ours."""
        return False

    async def is_opened(self) -> None:
        """Nothing is to be noted."""

    def was_closed(self) -> None:
        """Nothing is to be noted."""

    def was_lost(self, *, written: bool) -> None:
        """It stands where it stands, and tells the next worker."""

    def device(self) -> DeviceSpec | None:
        spec = self.spec()
        return spec if self.kind != "st" or spec.sg_device else None  # the kernel has no sg nodes

    def spec(self) -> DeviceSpec:
        return st_nodes.with_sg_node(self._spec) if self.kind == "st" else self._spec

    def check_node(self) -> None:
        """Raise OSError when the device node is another kind of file. One that is not there may come yet."""
        if self.kind != "st":
            return
        try:
            st_nodes.find_st_node(self._spec.device)
        except st_nodes.StNodeError as error:
            if not error.missing:
                raise OSError(errno.ENODEV, str(error), f"drive {self.name}") from error
            log.warning("device of a drive is not there", drive=self.name, path=self._spec.device)

    @property
    def ejected(self) -> bool:
        return False

    def eject(self) -> None:
        """It has; a robot or an operator takes the cartridge out."""

    def thread(self) -> None:
        """A drive that has a cartridge put in does so by itself."""

    async def load(self, barcode: str | None) -> str:
        raise InventoryError("refused", f"{self.name} is loaded by its changer, or by hand")

    async def unload(self) -> str:
        raise InventoryError("refused", f"{self.name} is unloaded by its changer, or by hand")


class Devices:
    """All libraries and drives of the configuration, in its order.

    Attributes:
        changers: of the virtual libraries, by the library's name.
        own_changers: real ones.
        unflushed: cartridges that were not closed in order.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self.libraries = {each.name: LibraryInventory(each, store) for each in config.library}
        self.changers: dict[str, LibraryChanger] = {}
        self.own_changers = [DeviceChanger(each) for each in config.changer]
        self.unflushed = Unflushed()
        self._bays: dict[str, DriveBay] = {}
        node = config.node.name
        for library in config.library:
            self._add_library(library, config.limits.ring, node)
        for drive in config.drive:
            path = drive.virtual_path()
            ring_bytes = drive.ring or config.limits.ring
            bay: DriveBay
            if path is None:
                bay = DeviceDrive(drive, ring_bytes, self.unflushed, node)
            else:
                bay = FileDrive(drive, path, ring_bytes, self.unflushed, node)
            bay.watermarks = drive.watermarks()
            self._bays[drive.name] = bay

    def _add_library(self, library: Library, ring_bytes: int, node: str) -> None:
        serial = _serial(node, f"{library.name}/changer")
        identity = scsi.Identity("VIRTUAL LIBRARY", REVISION, serial, scsi.MEDIA_CHANGER, scsi.SMC_3)
        changer = LibraryChanger(self.libraries[library.name], identity)
        self.changers[library.name] = changer
        for number in range(library.drives):
            bay = LibraryDrive(changer, number, ring_bytes, self.unflushed, node)
            bay.watermarks = library.start_percent, library.stop_percent
            changer.bays.append(bay)
            self._bays[bay.name] = bay

    def __iter__(self) -> Iterator[DriveBay]:
        return iter(self._bays.values())

    def find(self, name: str) -> DriveBay | None:
        """The drive of that name."""
        return self._bays.get(name)

    def find_device(self, name: str) -> tuple[DriveBay, AtClose] | None:
        """The drive of that device name, and what closing it by this name does."""
        for bay in self:
            at_close = self.names(bay).get(name)
            if at_close is not None:
                return bay, at_close
        return None

    def names(self, bay: DriveBay) -> dict[str, AtClose]:
        """The device names of a drive; one that another drive has in the configuration is that drive's alone."""
        names = device_names(bay.name)
        return {name: what for name, what in names.items() if name == bay.name or name not in self._bays}

    def rehearse(self, faults: Sequence[Fault]) -> None:
        """Take the faults that drives meet when they are opened from now on."""
        for bay in self:
            bay.faults = tuple(
                DriveFault(
                    each.kind,
                    record=each.record or 0,
                    at_bytes=each.at or 0,
                    rate_bytes=each.rate or 0,
                    buffer_bytes=each.buffer or DRIVE_BUFFER_BYTES,
                    reposition_ms=each.reposition_ms or 0,
                    seconds=each.seconds or 0,
                )
                for each in faults
                if each.drive == bay.name
            )
            if bay.faults:
                log.warning("drive rehearses faults", drive=bay.name, faults=[each.kind for each in bay.faults])

    async def take_inventory(self) -> None:
        """Look at libraries' directories and drives' nodes, make the files of drives. Raises OSError, StoreError."""
        for inventory in self.libraries.values():
            await inventory.reconcile()
        for bay in self:
            if isinstance(bay, FileDrive):
                await trio.to_thread.run_sync(bay.make_cartridge)
            elif isinstance(bay, DeviceDrive):
                await trio.to_thread.run_sync(bay.check_node)
