"""Who the real devices say they are: asked at the start, and for a list again while one of them has not answered.

A device that does not answer is listed with what the configuration says of it. One that let a question wait is not
asked again for a while, or every list would wait for it.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover import scsi
from mover.control.device_port import DeviceHungError, DevicePort
from mover.control.refusal import Refusal

if TYPE_CHECKING:
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay
    from mover.control.hung import HungDevices
    from mover.control.workers import Supervisor

ANSWER_S: Final = 10.0  # how long a device may take for each question
LIST_S: Final = 12.0  # how long a list waits for all of them
SLOW_S: Final = 1.0  # who needs longer to say nothing is not asked by each list
AGAIN_S: Final = 60.0  # but after so long

log = structlog.get_logger()


class Identities:
    """Asks the real devices of a node."""

    def __init__(
        self, supervisor: "Supervisor", hung: "HungDevices", devices: Iterable["DriveBay | DeviceChanger"]
    ) -> None:
        self._supervisor = supervisor
        self._hung = hung
        self._devices = [each for each in devices if each.real]
        self._asking: trio.Event | None = None
        self._silent_since: dict[str, float] = {}  # those that let a question wait, by name

    async def wait(self, within_s: float = LIST_S) -> None:
        """Ask who has not answered yet, and wait for that; no longer than ``within_s``."""
        event = self.ask()
        if event is not None:
            with trio.move_on_after(within_s):
                await event.wait()

    def ask(self) -> trio.Event | None:
        """Begin to ask who has not answered yet; returns what is set afterwards, None = all have."""
        if self._asking is None:
            unknown = [each for each in self._devices if self._is_to_be_asked(each)]
            if not unknown:
                return None
            self._asking = trio.Event()
            self._supervisor.look_after(self._ask_all, unknown, self._asking)
        return self._asking

    def _is_to_be_asked(self, device: "DriveBay | DeviceChanger") -> bool:
        silent_s = trio.current_time() - self._silent_since.get(device.name, -math.inf)
        return not device.identity.product and device.hung_since is None and silent_s >= AGAIN_S

    async def _ask_all(self, devices: "list[DriveBay | DeviceChanger]", done: trio.Event) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for device in devices:
                    nursery.start_soon(self._ask, device)
        finally:
            self._asking = None
            done.set()

    async def _ask(self, device: "DriveBay | DeviceChanger") -> None:
        port = DevicePort(self._supervisor, device.name, device.device, ANSWER_S)
        began = trio.current_time()
        try:
            pages = [await _page(port, page) for page in (None, scsi.SERIAL_PAGE, scsi.IDENTIFICATION_PAGE)]
        except DeviceHungError as error:
            self._hung.note(device, error.worker, error.text)
            return
        except Refusal as refusal:
            log.warning("device does not say who it is", device=device.name, text=refusal.text)
            # With a cause it is of our own processes, which say nothing of the device.
            if refusal.__cause__ is None and trio.current_time() - began > SLOW_S:
                self._silent_since[device.name] = trio.current_time()
            return
        finally:
            await port.close()
        identity = scsi.read_identity(*pages)
        if identity is None:
            log.warning("no device there", device=device.name)
            return
        device.identity = identity
        log.info(
            "device found", device=device.name, vendor=identity.vendor, product=identity.product, serial=identity.serial
        )


async def _page(port: DevicePort, page: int | None) -> bytes:
    length = scsi.INQUIRY_BYTES if page is None else scsi.PAGE_BYTES
    answer = await port.execute(scsi.inquiry(page), data_in=length)
    return answer.data if answer.status == scsi.Status.GOOD else b""
