"""A tgtd of the test's own on a free port of loopback: tape drives and a media changer over iSCSI, without root.

LUNs 1 to ``drives`` are drives, the next one is the changer. Its faults are named in tests/tape/test_scsi_drive.py.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from mover.tape.iscsi import IscsiTransport
from mover.workers.device_messages import DeviceSpec
from tests.support import peers

TARGET: Final = "iqn.2026-01.test:vtl"
DEADLINE_S: Final = 60.0
STORAGE, IMPORT_EXPORT, DRIVES = 2, 3, 4  # SMC element types
FIRST: Final = {STORAGE: 4096, IMPORT_EXPORT: 769, DRIVES: 256}
PROGRAMS: Final = ("tgtd", "tgtadm", "tgtimg")
"""What a test's `peer` marker names."""


class Tgtd:
    """A running tgtd; a context manager that ends it.

    Attributes:
        port: where it serves.
        pid: of its process.

    Args:
        directory: for its cartridges.
        loaded: put cartridge number n into drive number n of these, through the changer's own administration.
        tape_mib: capacity of each cartridge.
        chap: user and secret that a login needs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        drives: int = 1,
        tapes: int = 2,
        tape_mib: int = 64,
        loaded: bool = True,
        chap: tuple[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.drives = drives
        self.port = 0
        self._chap = chap
        self._log = directory / "tgtd.log"
        # A unix socket's path may be short only; the test's directory is not.
        self._sockets = Path(tempfile.mkdtemp(prefix="tgtd-"))
        self._environment = os.environ | {"TGT_IPC_SOCKET": str(self._sockets / "s")}
        self._process: subprocess.Popen[bytes] | None = None
        self._control = "0"  # the socket's name carries it; each tgtd has a directory of its own
        try:
            self._start()
            self._make_library(tapes, tape_mib)
            if chap is not None:
                self._admin("--op", "new", "--mode", "account", "--user", chap[0], "--password", chap[1])
                self._admin("--op", "bind", "--mode", "account", "--tid", "1", "--user", chap[0])
            self._admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
            if loaded:
                for number in range(drives):
                    self.load(number)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def url(self, lun: int = 1) -> str:
        """Of a logical unit."""
        return f"iscsi://127.0.0.1:{self.port}/{TARGET}/{lun}"

    @property
    def changer_url(self) -> str:
        return self.url(self.drives + 1)

    @staticmethod
    def barcode(number: int) -> str:
        return f"TAPE{number + 1:02d}L4"

    def load(self, number: int) -> None:
        """Have the changer move cartridge ``number`` from its slot into drive ``number``."""
        self.move(FIRST[STORAGE] + number, FIRST[DRIVES] + number)

    def unload(self, number: int) -> None:
        """The other way round."""
        self.move(FIRST[DRIVES] + number, FIRST[STORAGE] + number)

    def move(self, source: int, destination: int) -> None:
        """MOVE MEDIUM by element addresses (SMC-3 6.6)."""
        user, secret = self._chap or ("", "")
        changer = IscsiTransport(DeviceSpec("changer", self.changer_url, chap_user=user, chap_secret=secret))
        try:
            cdb = b"\xa5\0\0\0" + source.to_bytes(2) + destination.to_bytes(2) + bytes(4)
            reply = changer.execute(cdb, timeout_s=DEADLINE_S)
            assert reply.status == 0, reply
        finally:
            changer.close()

    # --- starting and stopping ------------------------------------------------------------------------------

    def _start(self) -> None:
        """On a free port: a tgtd that does not get its port runs on without serving, so another one is tried."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    [peers.require("tgtd"), "-f", "-C", self._control, "--iscsi", f"portal=127.0.0.1:{self.port}"],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            taken = time.monotonic() + DEADLINE_S / 3
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._answers():
                    return
                if time.monotonic() > taken:
                    break
                time.sleep(0.02)  # it says nowhere that it is ready
            self.kill()
            for left in self._sockets.iterdir():
                left.unlink()
        raise AssertionError(f"tgtd does not serve:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _answers(self) -> bool:
        """Whether it takes orders, and the port is its own: another's tgtd may have been faster."""
        if self._run("--op", "show", "--mode", "target").returncode != 0:
            return False
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        return self.port in [each.laddr.port for each in sockets if each.status == "LISTEN"]

    def kill(self) -> None:
        """SIGKILL: the only signal that it does not ignore. Its cartridges stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it and remove what is not below its directory."""
        self.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- its library ----------------------------------------------------------------------------------------

    def _make_library(self, tapes: int, tape_mib: int) -> None:
        media = self.directory / "media"
        media.mkdir(parents=True, exist_ok=True)
        for number in range(tapes):
            barcode = self.barcode(number)
            if not (media / barcode).exists():
                self._image(media / barcode, barcode, tape_mib)
        inventory = self.directory / "smc"
        inventory.write_bytes(bytes(1024))
        self._admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        changer = str(self.drives + 1)
        for number in range(self.drives):
            lun = str(number + 1)
            # It wants a backing store although it starts empty: any cartridge will do.
            self._new_unit(lun, media / self.barcode(0), "tape")
            self._unit(
                lun, "online=0", "vendor_id=TESTDRV", "product_id=ULT3580-TD4", "product_rev=C7QH",
                f"scsi_sn=DRV{number + 1:07d}", "removable=1",
            )  # fmt: skip
        self._new_unit(changer, inventory, "changer")
        self._unit(changer, "vendor_id=TESTLIB", "product_id=VTL", "product_rev=0100", "scsi_sn=LIB0000001")
        self._unit(changer, "removable=1")
        self._unit(changer, f"media_home={media}")
        self._unit(changer, "element_type=1", "start_address=1", "quantity=1")
        self._unit(changer, f"element_type={DRIVES}", f"start_address={FIRST[DRIVES]}", f"quantity={self.drives}")
        for number in range(self.drives):
            address = FIRST[DRIVES] + number
            self._unit(changer, f"element_type={DRIVES}", f"address={address}", "tid=1", f"lun={number + 1}")
        self._unit(
            changer, f"element_type={IMPORT_EXPORT}", f"start_address={FIRST[IMPORT_EXPORT]}", "quantity=1"
        )  # fmt: skip
        self._unit(
            changer, f"element_type={STORAGE}", f"start_address={FIRST[STORAGE]}", f"quantity={tapes + 2}"
        )  # fmt: skip
        for number in range(tapes):
            address = FIRST[STORAGE] + number
            self._unit(
                changer, f"element_type={STORAGE}", f"address={address}", f"barcode={self.barcode(number)}", "sides=1"
            )

    def _image(self, path: Path, barcode: str, tape_mib: int) -> None:
        command = [
            str(peers.require("tgtimg")), "--op", "new", "--device-type", "tape", "--barcode", barcode,
            "--size", str(tape_mib), "--type", "data", "--thin-provisioning", "--file", str(path),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)

    def _new_unit(self, lun: str, store: Path, kind: str) -> None:
        self._admin(
            "--op",
            "new",
            "--mode",
            "logicalunit",
            "--tid",
            "1",
            "--lun",
            lun,
            "-b",
            str(store),
            f"--device-type={kind}",
        )

    def _unit(self, lun: str, *parameters: str) -> None:
        self._admin(
            "--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", lun, "--params", ",".join(parameters)
        )

    def _admin(self, *arguments: str) -> None:
        ran = self._run(*arguments)
        assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [peers.require("tgtadm"), "-C", self._control, "--lld", "iscsi", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip


@contextmanager
def running_library() -> Iterator[Tgtd]:
    """A tgtd with a changer, empty drives and three cartridges in slots, in memory."""
    with (
        tempfile.TemporaryDirectory(prefix="mover-tgtd-", dir="/dev/shm") as name,
        Tgtd(Path(name), drives=2, tapes=3, loaded=False) as running,
    ):
        yield running
