"""A real media changer of the configuration: who has it, and who it says it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from mover import scsi
from mover.config import Changer
from mover.control.cartridges import InventoryError
from mover.control.hung import describe_hung
from mover.workers.device_messages import DeviceSpec


class DeviceChanger:
    """One changer.

    Attributes:
        session_id: the connection that has it open; None = nobody.
        moves: operators' commands under way; while there are any no connection opens it.
        timeout_s: how long it may take for any command; None = as the table of deadlines says.
        hung_since: it does not answer; seconds since 1970, None = it is well.
        identity: what its INQUIRY says; without a product until it has answered.
    """

    real = True

    def __init__(self, changer: Changer) -> None:
        self.name = changer.name
        self.path = changer.device
        self.session_id: int | None = None
        self.moves = 0
        self.timeout_s: float | None = changer.timeout_s
        self.hung_since: float | None = None
        self.identity = scsi.Identity("", "", "", scsi.MEDIA_CHANGER, 0, vendor="")
        self._spec = DeviceSpec(
            changer.name, changer.device, chap_user=changer.chap_user, chap_secret=changer.chap_secret.reveal()
        )

    def device(self) -> DeviceSpec:
        """How a worker reaches it."""
        return self._spec

    @contextmanager
    def operating(self) -> Iterator[None]:
        """An operator has it meanwhile.

        Raises:
            InventoryError: a connection has it open, another operator is at it, or it hangs.
        """
        if self.hung_since is not None:
            raise InventoryError("busy", describe_hung(self))
        if self.session_id is not None:
            raise InventoryError("busy", f"{self.name} is open in session {self.session_id}")
        if self.moves:
            raise InventoryError("busy", f"{self.name} is at work for another command")
        self.moves += 1
        try:
            yield
        finally:
            self.moves -= 1
