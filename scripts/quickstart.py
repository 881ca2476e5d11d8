"""Backs a directory up through NDMP onto a virtual tape, recovers it, and compares every entry.

Started by scripts/quickstart, which makes the environment. The servers, the tape, their state and the recovered
tree live in a temporary directory outside the checkout; the servers are stopped whatever happens.
"""

import argparse
import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

import msgspec
import psutil
from quickstart_source import Source

from mover.admin.tapes import CartridgeStatus, DriveStatus
from mover.dma.compare import Comparison, compare_trees, printable
from tests.support.servers import Login, Server, ServerError, mover_command, write_config

os.environ.pop("PYTHONPATH", None)  # scripts/quickstart's, for the imports above

CHECKOUT = Path(__file__).resolve().parent.parent
LEFT_OUT_OF_THE_CHECKOUT = (".venv", ".git")
DRIVE = "vtl0/drive0"
RECORD_SIZE = "256KiB"
SHOWN = 20  # skipped entries and differences named on the terminal; the rest are in a file
SAMPLE_S = (0.02, 0.25)  # often at first, since a small job is over soon
PLACE_BYTES_MAX = 60  # the admin socket lies below, and a unix socket's address has 107
STARTING = "starting"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
JOB_END_S = 15.0  # for `mover backup` and `recover` to end their job in order


class QuickstartError(Exception):
    """It cannot go on; one line for people."""


class Interrupts:
    """Ctrl-C and its like as KeyboardInterrupt, but never while a process is being started or ended."""

    def __init__(self) -> None:
        self._held = 0
        self._came: int | None = None
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._came = number
        if not self._held:
            self._raise()

    def _raise(self) -> None:
        if self._came is not None:
            number, self._came = self._came, None
            raise KeyboardInterrupt(signal.Signals(number).name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What comes meanwhile is raised at the end: nobody would know of a process whose start was cut short."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._raise()


class Usage(NamedTuple):
    """What one process used, as far as it was seen."""

    server: str
    kind: str
    pid: int
    cpu_s: float
    rss_bytes: int  # largest seen, shared memory (the rings) included
    shared_bytes: int
    read_bytes: int  # by read and write calls; what goes through a socket's send and recv is not in it
    written_bytes: int
    had_work: bool  # a worker maps shared memory when it gets work, a spare has none


class Sampler:
    """Reads the servers' processes several times a second: a worker is gone when its job has ended."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self.usages: dict[psutil.Process, Usage] = {}
        self._servers = servers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(min(max(SAMPLE_S[0], (time.monotonic() - began) / 50), SAMPLE_S[1])):
            for name, server in self._servers.items():
                for process in server.processes():
                    with contextlib.suppress(psutil.Error):
                        self._sample(name, server, process)

    def _sample(self, name: str, server: Server, process: psutil.Process) -> None:
        with process.oneshot():
            cpu, memory, io = process.cpu_times(), process.memory_info(), process.io_counters()
            before = self.usages.get(process)
            if before is None or before.kind == STARTING:
                kind = "control" if process.pid == server.pid else worker_kind(process.cmdline())
            else:
                kind = before.kind
            had_work = kind == "control" or (before is not None and before.had_work) or maps_shared_memory(process.pid)
        self.usages[process] = Usage(
            name,
            kind,
            process.pid,
            cpu.user + cpu.system,
            max(memory.rss, before.rss_bytes if before else 0),
            max(memory.shared, before.shared_bytes if before else 0),
            io.read_chars,
            io.write_chars,
            had_work,
        )


def worker_kind(command: list[str]) -> str:
    """The kind of a worker, which is started as `python -I -m mover.KIND`."""
    module = next((word for word in command if word.startswith("mover.")), "")
    return module.removeprefix("mover.") or STARTING


def maps_shared_memory(pid: int) -> bool:
    """Whether a process has a ring or a record memory; False when it is gone."""
    try:
        return "memfd:" in Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False


def say(text: str = "") -> None:
    print(text, flush=True)


def mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f}"


def place_outside(directory: Path) -> Path:
    """A new directory that lies in neither the checkout nor the tree to back up."""
    tried = []
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm", os.environ.get("HOME", "/")):
        candidate = Path(place).resolve()
        inside = any(candidate == tree or tree in candidate.parents for tree in (directory, CHECKOUT))
        short = len(os.fsencode(candidate)) <= PLACE_BYTES_MAX
        if not inside and short and os.access(candidate, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="mover-quickstart-", dir=candidate))
        tried.append(str(candidate))
    raise QuickstartError(f"no place outside {directory} for the tape (tried {', '.join(tried)}); set TMPDIR")


class Quickstart:
    """One run: servers, backup, recover, comparison, report."""

    def __init__(self, directory: Path, interrupts: Interrupts, *, three_way: bool, place: Path) -> None:
        self.interrupts = interrupts
        self.place = place
        self.three_way = three_way
        self.login = Login("quickstart", secrets.token_urlsafe(12))
        self.servers: dict[str, Server] = {}
        self.recovered = place / "recovered"
        self.recovered.mkdir()
        self.catalogue = place / "catalogue.sqlite"
        self.password_file = place / "password"
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(self.login.password + "\n")
        say(f"looking at {directory}")
        exclude = LEFT_OUT_OF_THE_CHECKOUT if directory == CHECKOUT else ()
        self.source = Source(directory, exclude, place)
        skipped = f", {len(self.source.skipped)} to be skipped" if self.source.skipped else ""
        say(f"  {self.source.entries} entries, {mebibytes(self.source.data_bytes)} MiB of data{skipped}")

    def run(self) -> int:
        """Everything; returns the exit status."""
        started = time.time_ns()
        elapsed_s = -time.monotonic()
        try:
            self.start_servers()
            with Sampler(self.servers) as sampler:
                self.backup_and_recover()
                cartridge = self.cartridge()
            elapsed_s += time.monotonic()
        finally:
            self.stop_servers()
        comparison = self.compare()
        changed = self.changed_since(started, comparison)
        differences = [difference for difference in comparison.differences if difference.path not in changed]
        skipped = {**self.source.skipped, **changed}
        self.name_skipped(skipped)
        statistics(list(sampler.usages.values()), elapsed_s)
        if differences:
            self.name_all("differences", [str(difference) for difference in differences])
            paths = len({difference.path for difference in differences})
            raise QuickstartError(f"{paths} of {comparison.compared} entries differ")
        remove_tree(self.recovered)
        self.how_to_go_on(cartridge)
        say(f"quickstart: {comparison.identical} entries identical, {len(skipped)} skipped")
        return 0

    def start_servers(self) -> None:
        """One mover with everything, or a file server and a tape host."""
        volumes = {"source": self.source.directory, "recovered": self.recovered}
        if self.three_way:
            self.start("file-server", volumes, drives=0)
            self.start("tape-host", {}, drives=1)
        else:
            self.start("mover", volumes, drives=1)
        say(f"putting a new cartridge into {DRIVE}")
        self.ask_tape("create", "vtl0")
        self.ask_tape("load", DRIVE)

    def start(self, name: str, volumes: dict[str, Path], *, drives: int) -> None:
        """Starts one server and remembers it."""
        config = write_config(self.place / name, self.login, volumes=volumes, drives=drives)
        with self.interrupts.held():
            server = self.servers[name] = Server(config)
        say(f"started {name}: NDMP on {server.address}, pid {server.pid}")

    def stop_servers(self) -> None:
        """Stops every server; all of them are stopped before what went wrong is raised."""
        wrong = []
        with self.interrupts.held():  # a second Ctrl-C must not leave a server behind
            for server in self.servers.values():
                try:
                    server.stop()
                except ServerError as error:
                    wrong.append(error)
        if wrong:
            raise wrong[0]

    @property
    def data_server(self) -> Server:
        """The server that has the files."""
        return next(iter(self.servers.values()))

    @property
    def tape_server(self) -> Server:
        """The server that has the drive."""
        return list(self.servers.values())[-1]

    def ask_tape(self, *arguments: str) -> dict[str, object]:
        """`mover tape` at the server that has the drive; returns its document."""
        with self.interrupts.held():
            return self.tape_server.ask("tape", *arguments)

    def backup_and_recover(self) -> None:
        """Both jobs by the built-in DMA, as an operator would type them."""
        env = ["--env", f"EXCLUDE={','.join(self.source.exclude)}"] if self.source.exclude else []
        if self.source.asks_for_trusted:
            env += ["--env", "TRUSTED_XATTRS=y"]  # the recover gets it from the catalogue
        self.dma("backup", str(self.source.directory), "--record-size", RECORD_SIZE, "--overwrite", *env)
        # What is to be skipped or left out may fail a recover: the comparison is the judge then.
        may_fail = bool(self.source.skipped or self.source.not_restored)
        self.dma("recover", "--destination", str(self.recovered), may_fail=may_fail)

    def dma(self, command: str, *arguments: str, may_fail: bool = False) -> None:
        """Runs a command of the built-in DMA, its progress going to our output.

        Raises:
            QuickstartError: it failed, and may not; it has said why.
        """
        line = [
            command,
            *arguments,
            "--host", self.data_server.address,
            *(["--tape-host", self.tape_server.address] if self.three_way else []),
            "--drive", DRIVE,
            "--user", self.login.user,
            "--password-file", str(self.password_file),
            "--catalogue", str(self.catalogue),
        ]  # fmt: skip
        say(f"$ mover {shlex.join(line)}")
        if self.run_job([*mover_command(), *line]) != 0 and not may_fail:
            raise QuickstartError(f"mover {command} failed (see above)")

    def run_job(self, line: list[str]) -> int:
        """Runs a command to its end and returns its exit status; it is gone whatever happens to us."""
        job = None
        try:
            with self.interrupts.held():
                # A session of its own: Ctrl-C is for us, and we end it.
                job = subprocess.Popen(line, stdin=subprocess.DEVNULL, start_new_session=True)
            return job.wait()
        finally:
            if job is not None:
                with self.interrupts.held():
                    end(job)

    def cartridge(self) -> Path:
        """The file of the cartridge in the drive."""
        shown = self.ask_tape("show")
        drives = msgspec.convert(shown["drives"], list[DriveStatus])
        cartridges = msgspec.convert(shown["cartridges"], list[CartridgeStatus])
        (path,) = (drive.path for drive in drives if drive.name == DRIVE)
        (used,) = (cartridge.used_bytes for cartridge in cartridges if cartridge.path == path)
        say(f"the cartridge holds {mebibytes(used)} MiB")
        return Path(path)

    def compare(self) -> Comparison:
        """Every entry of the source with what was recovered."""
        say("comparing every entry")
        last = time.monotonic()

        def progress(count: int) -> None:
            nonlocal last
            if time.monotonic() - last >= 1:
                last = time.monotonic()
                say(f"  {count} of {self.source.entries}")

        return compare_trees(
            self.source.directory,
            self.recovered,
            skip=self.source.skipped,
            exempt=lambda path, _status, what: (
                what in self.source.not_restored.get(path, ()) or (what == "missing" and self.source.is_left_out(path))
            ),
            progress=progress,
        )

    def changed_since(self, started_ns: int, comparison: Comparison) -> dict[bytes, str]:
        """Entries that differ because somebody changed them meanwhile."""
        changed = {}
        for path in {difference.path for difference in comparison.differences}:
            try:
                status = os.lstat(os.path.join(os.fsencode(self.source.directory), path))
            except FileNotFoundError:
                changed[path] = "gone since the backup began"
            else:
                if status.st_ctime_ns >= started_ns:
                    changed[path] = "changed since the backup began"
        return changed

    def name_skipped(self, skipped: dict[bytes, str]) -> None:
        """Names what was left out of the comparison: attributes once with their count, entries one by one."""
        counts = self.source.counts_of_not_restored()
        if counts:
            say("left out of the comparison, because it cannot be restored here:")
            for what, count in counts.items():
                say(f"  {what}: {count} entries")
        self.name_all("skipped", [f"{printable(path)}: {reason}" for path, reason in sorted(skipped.items())])

    def name_all(self, what: str, lines: list[str]) -> None:
        """Prints the first lines, and all of them into a file when there are more."""
        if not lines:
            return
        say(f"{what}:")
        for line in lines[:SHOWN]:
            say(f"  {line}")
        if len(lines) > SHOWN:
            path = self.place / f"{what}.txt"
            path.write_text("\n".join([*lines, ""]))
            say(f"  ... and {len(lines) - SHOWN} more, all in {path}")

    def how_to_go_on(self, cartridge: Path) -> None:
        """Where things are, and commands that work now."""
        mover = shlex.quote(mover_command()[0])
        tape = shlex.quote(str(cartridge))
        say()
        say(f"The tape is {cartridge}")
        say(f"Catalogue, configuration, state and logs are in {self.place}; nothing is running any more.")
        say("To go on:")
        say(f"  {mover} tape ls {tape}")
        say(f"  {mover} tape extract {tape} --output {shlex.quote(str(self.place / 'backup.dump'))}")
        say(f"  {mover} list --catalogue {shlex.quote(str(self.catalogue))}")
        say(f"  {mover} serve --config {shlex.quote(str(self.tape_server.config))}")
        say(f"  rm -r {shlex.quote(str(self.place))}    # when you have seen enough")
        say()


def statistics(usages: list[Usage], elapsed_s: float) -> None:
    """The table of processes; workers that were not seen at work are only counted."""
    worked = [usage for usage in usages if usage.had_work]
    columns = ["server", "process", "pid", "CPU s", "CPU %", "RSS MiB", "of it shared", "read MiB", "written MiB"]
    rows = [columns]
    for usage in sorted(worked, key=lambda each: (each.server, each.kind, each.pid)):
        numbers = [usage.rss_bytes, usage.shared_bytes, usage.read_bytes, usage.written_bytes]
        share = f"{usage.cpu_s / elapsed_s * 100:.0f}"
        cells = [usage.server, usage.kind, str(usage.pid), f"{usage.cpu_s:.2f}", share]
        rows.append(cells + [mebibytes(number) for number in numbers])
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    say()
    say(f"processes, over {elapsed_s:.1f} s (read and written by file calls, not over sockets):")
    for row in rows:
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  " + "  ".join(cells).rstrip())
    if len(usages) > len(worked):
        say(f"  and {len(usages) - len(worked)} workers not seen at work: spares, and those that ended between looks")


def remove_tree(path: Path) -> None:
    """Removes a tree whose directories may lack every permission."""
    path.chmod(0o700)
    for directory, names, _ in os.walk(os.fsencode(path)):
        for name in names:
            inner = os.path.join(directory, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that may still be running, by force when it does not go."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(JOB_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Parses the command line, runs, and turns what went wrong into one line."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", add_help=False)  # scripts/quickstart has the help
    parser.add_argument("--three-way", action="store_true")
    parser.add_argument("directory", metavar="DIRECTORY", nargs="?", default=CHECKOUT)
    options = parser.parse_args()
    interrupts = Interrupts()
    place = None
    try:
        directory = Path(options.directory).resolve()
        if not directory.is_dir() or not os.access(directory, os.R_OK | os.X_OK):
            raise QuickstartError(f"{options.directory}: not a directory that can be read")
        with interrupts.held():
            place = place_outside(directory)
        return Quickstart(directory, interrupts, three_way=options.three_way, place=place).run()
    except (QuickstartError, ServerError, OSError) as error:
        kept = f" (logs and all else are kept in {place})" if place is not None else ""
        print(f"quickstart: {error}{kept}", file=sys.stderr)
    except KeyboardInterrupt:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if place is not None:
            remove_tree(place)
        print("quickstart: interrupted; the servers are stopped and everything is removed", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
