"""What /proc says of a process: against psutil, with a copy at work, and of one that is gone."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from mover.control.statistics_processes import Details, read_details, read_process
from tests.support.processes import settle


def test_of_ourselves() -> None:
    figures, process = read_process(os.getpid()), psutil.Process()
    assert figures is not None
    times, counters = process.cpu_times(), process.io_counters()
    assert figures.cpu_seconds == pytest.approx(sum(times[:4]), abs=0.2)
    assert figures.resident_bytes == pytest.approx(process.memory_info().rss, abs=8 << 20)
    assert figures.threads >= 1
    assert figures.state in {"running", "sleeping"}
    assert 0 < figures.read_bytes <= counters.read_chars
    assert figures.age_seconds >= 0
    details = read_details(os.getpid())
    assert details.open_files >= 3
    assert details.context_switches > 0


def test_of_a_process_at_rest() -> None:
    """Nothing of it changes, so it is what psutil finds, to the file."""
    program = (
        "import sys, threading\n"
        "files = [open('/dev/null') for _ in range(40)]\n"
        "over = threading.Event()\n"
        "threads = [threading.Thread(target=over.wait) for _ in range(2)]\n"
        "for each in threads: each.start()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "over.set()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        process = psutil.Process(child.pid)
        child.send_signal(signal.SIGSTOP)
        try:
            settle(lambda: process.status() == psutil.STATUS_STOPPED, "it stands still", 30)
            figures, details = read_process(child.pid), read_details(child.pid)
            switches = process.num_ctx_switches()
            assert figures is not None
            assert (figures.state, figures.threads) == ("stopped", 3)
            assert (details.open_files, process.num_fds()) == (43, 43)
            assert (details.context_switches, details.involuntary_switches) == tuple(switches)
            # The kernel sums its pages up in steps, by processor.
            assert figures.resident_bytes == pytest.approx(process.memory_info().rss, abs=5 << 20)
            assert figures.cpu_seconds == pytest.approx(sum(process.cpu_times()[:4]), abs=0.02)
        finally:
            child.send_signal(signal.SIGCONT)
            child.stdin.close()


def test_copies_count() -> None:
    """A child burns processor time, and then its parent only waits."""
    program = (
        "import os, sys, time\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    while time.process_time() < 0.5: pass\n"
        "    print('burnt', flush=True)\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print('reaped', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "burnt\n"
        alone, together = read_process(process.pid), read_process(process.pid, copies=True)
        assert alone is not None
        assert together is not None
        assert together.cpu_seconds >= alone.cpu_seconds + 0.4
        process.stdin.close()
        assert process.stdout.readline() == "reaped\n"
        after = read_process(process.pid, copies=True)
        assert after is None or after.cpu_seconds >= together.cpu_seconds


def test_of_one_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert read_process(process.pid) is None
        assert read_details(process.pid) == Details()
