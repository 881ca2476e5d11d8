"""Rules for every test: what `peer` and `root` mean here, and that nothing is left running."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.support import peers

# The machine is shared: how long an example takes says nothing.
settings.register_profile(
    "shared machine", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")

_SESSION_VARIABLE = "MOVER_TEST_SESSION"
_left_running: list[str] = []

# scripts/test runs a test that failed once more (--reruns). One that passes then is named at the end and does not fail
# the run: the machine is shared, and deadlines are missed. So many of them are no accident any more.
SECOND_ATTEMPTS_MAX = 10
_attempted_again: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """The tests run in lanes (`-n`)."""
    from tests.support.lanes import Lanes  # without lanes they need no pytest-xdist

    return Lanes(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root, and without a peer unless under CI=true, the tests that need them are skipped by name."""
    if hasattr(config, "workerinput"):  # this is a lane
        from tests.support import lanes

        lanes.order(items)
    for item in items:
        if item.get_closest_marker("root") is not None and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        missing = _missing_peers(item)
        if missing and os.environ.get("CI") != "true":
            item.add_marker(pytest.mark.skip(reason=missing))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under CI=true a missing peer is a failure."""
    missing = _missing_peers(item)
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)


def _missing_peers(item: pytest.Item) -> str:
    """Why the item's `peer` marker cannot be met; empty when it can."""
    wanted: set[str] = set()
    for marker in item.iter_markers("peer"):
        wanted |= set(marker.args or peers.ALL)
    missing = sorted(program for program in wanted if peers.find(program) is None)
    return f"real peer not installed or not usable: {', '.join(missing)}" if missing else ""


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Processes that a test started and left, by an environment variable that they all inherit."""
    token = uuid.uuid4().hex
    os.environ[_SESSION_VARIABLE] = token
    yield
    os.environ.pop(_SESSION_VARIABLE)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_SESSION_VARIABLE) == token:
                _left_running.append(f"pid {process.pid}: {' '.join(process.cmdline())}")
                process.kill()
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue  # another user's, or gone meanwhile
    assert _left_running == []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes each test that is run a second time."""
    if str(report.outcome) == "rerun":  # pytest-rerunfailures' own
        _attempted_again.add(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Too many second attempts fail the run, also if each of them passed."""
    if len(_attempted_again) > SECOND_ATTEMPTS_MAX and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeats the checks that failed before the tests, so that scripts/test can end with pytest's summary."""
    failed = os.environ.get("MOVER_FAILED_CHECKS")
    if failed:
        terminalreporter.section("checks before the tests")
        for check in failed.split(";"):
            terminalreporter.line(f"FAILED {check}")
    if len(_attempted_again) > SECOND_ATTEMPTS_MAX:
        terminalreporter.section(f"more than {SECOND_ATTEMPTS_MAX} tests needed a second attempt: the run failed")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The project's root directory."""
    return Path(__file__).resolve().parent.parent
