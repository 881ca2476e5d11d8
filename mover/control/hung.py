"""Devices that hang: nobody gets one before it answers again, and operators are told since when it does not.

A device is taken for hung when its worker did not come back within the deadline, or was killed with the device open.
First the worker has to end: in a system call that no signal interrupts it still has the device. Then a real device is
asked who it is, again and again, until it answers anything. A virtual drive is only a file, and free with its worker.
"""

import time
from typing import Final, Protocol

import structlog
import trio

from mover import scsi
from mover.control.device_port import DeviceHungError, DevicePort
from mover.control.refusal import Refusal
from mover.control.workers import Supervisor, Worker
from mover.workers.device_messages import DeviceSpec

PROBE_S: Final = 10.0  # how long an answer may take
BETWEEN_S: Final = 3.0  # two questions
PATIENCE_S: Final = 3.0  # how long who opens a device waits for the first answer

log = structlog.get_logger()


class Device(Protocol):
    """A drive or a changer.

    Attributes:
        hung_since: seconds since 1970; None = it is not hung.
    """

    name: str
    hung_since: float | None

    def device(self) -> DeviceSpec | None:
        """How a worker reaches a real one; None = it is emulated."""
        ...


class HungDevices:
    """Looks after the devices that hang."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._answered: dict[str, trio.Event] = {}

    def note(self, device: Device, worker: Worker, text: str) -> None:
        """A device may hang: ``worker`` has been killed, or is about to be, while it had the device open."""
        if device.hung_since is not None:
            return
        device.hung_since = time.time()
        self._answered[device.name] = trio.Event()
        log.warning("device busy until it answers", device=device.name, text=text)
        self._supervisor.look_after(self._watch, device, worker)

    async def _watch(self, device: Device, worker: Worker) -> None:
        await worker.ended.wait()
        while True:
            if await self._answers(device):
                break
            await trio.sleep(BETWEEN_S)
        since, device.hung_since = device.hung_since, None
        self._answered.pop(device.name).set()
        hung_s = 0.0 if since is None else round(time.time() - since, 1)
        log.warning("device answers again", device=device.name, seconds=hung_s)

    async def _answers(self, device: Device) -> bool:
        if device.device() is None:
            return True
        port = DevicePort(self._supervisor, device.name, device.device, PROBE_S)
        try:
            await port.execute(scsi.inquiry(), data_in=scsi.INQUIRY_BYTES)
        except DeviceHungError as error:
            await error.worker.ended.wait()  # one that cannot be killed has it until then
            return False
        except Refusal as refusal:
            log.info("device does not answer", device=device.name, text=refusal.text)
            return False
        finally:
            await port.close()
        return True

    async def wait(self, device: Device, seconds: float = PATIENCE_S) -> None:
        """Wait for a device that may only have been closed out of order a moment ago; see ``hung_since`` then."""
        event = self._answered.get(device.name)
        if event is not None:
            with trio.move_on_after(seconds):
                await event.wait()


def describe_hung(device: Device) -> str:
    """For whoever wanted a device that hangs."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(device.hung_since or 0))
    return f"{device.name} has not answered since {at}"
