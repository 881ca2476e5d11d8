"""backup, recover and list: what the DMA is told and how its results are shown; the jobs themselves are the DMA's."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import mover.dma
from mover.cli.jobs import _local_time
from mover.dma import (
    BackupOptions,
    BackupResult,
    Credentials,
    Entry,
    FailedName,
    Job,
    JobError,
    ListOptions,
    ListResult,
    LogLine,
    Progress,
    RecoverOptions,
    RecoverResult,
    Server,
    TapeListOptions,
)
from mover.ndmp.enums import FileType
from tests.cli.conftest import Run

BACKUP = BackupResult(
    job=3, bytes_processed=3 << 20, files=7, elapsed_s=2.0, tape_file=1, cartridges=[], record_size=65536,
    protocol_version=4, env=[(b"LEVEL", b"0"), (b"N", b"\xff")], warnings=["w"], log=[LogLine("normal", "hello")],
)  # fmt: skip
RECOVER = RecoverResult(
    requested=2, recovered=1, failed=[FailedName(b"a\n\xff", "FAILED_NOT_FOUND")], bytes_processed=100, elapsed_s=61.0,
    tape_file=1, protocol_version=4, warnings=[], log=[],
)  # fmt: skip
JOB = Job(
    job=3, started=0.0, ended=1.0, status="successful", message="", data_server="h:10000", tape_server="h:10000",
    drive="vtl0/drive0", tape_file=1, record_size=65536, butype="dump", filesystem="/srv", protocol_version=4,
    bytes_processed=10, files=2, level=2,
)  # fmt: skip
ENTRIES = [
    Entry(b"/", ftype=FileType.DIR, mode=0o755, owner=0, group=0, size=4096, mtime=0),
    Entry(b"/x\x1b\xff", node=12),
]

SERVER = ["--host", "h", "--drive", "d", "--user", "u", "--password-file", os.devnull]

Said = list[Any]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Options that the stand-ins for the DMA's jobs were given."""
    options: Said = []

    def stand_in(result: object) -> Callable[..., Any]:
        async def run(
            given: object,
            *,
            progress: Callable[[Progress], None],
            log: Callable[[LogLine], None],
        ) -> object:
            options.append(given)
            progress(Progress("connect"))
            progress(Progress("transfer", 1 << 20, 4 << 20, 5, 1048576.0, 3.0))
            progress(Progress("transfer", 2 << 20))
            log(LogLine("warning", "a file\nshrank"))
            log(LogLine("debug", "for developers"))
            return result

        return run

    monkeypatch.setattr(mover.dma, "run_backup", stand_in(BACKUP))
    monkeypatch.setattr(mover.dma, "run_recover", stand_in(RECOVER))
    monkeypatch.setattr(mover.dma, "run_list", stand_in(ListResult([JOB], ENTRIES)))
    return options


@pytest.fixture
def login(tmp_path: Path) -> list[str]:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("geheim\n")
    return ["--host", "h", "--drive", "vtl0/drive0", "--user", "u", "--password-file", str(password)]


def test_backup_tells_the_dma_only_what_was_given(mover: Run, told: Said, login: list[str]) -> None:
    result = mover("backup", "/srv", *login)
    assert result.exit_code == 0
    credentials = Credentials("u", "geheim")
    assert told == [BackupOptions(data=Server("h"), credentials=credentials, drive="vtl0/drive0", filesystem="/srv")]
    assert result.stdout == ("job 3: 3.0 MiB in 0:00:02, 1.5 MiB/s, 7 names, tape file 1, warnings: 1\n")
    assert result.stderr.splitlines() == [
        "connecting",
        "transferring, 1.0 MiB of 4.0 MiB, 5 names, 1.0 MiB/s, 0:00:03 to go",
        r"warning: a file\nshrank",
    ]


def test_the_password_of_the_tapes_server_is_needed(mover: Run, told: Said, login: list[str]) -> None:
    result = mover("backup", "/srv", *login, "--tape-host", "t", "--tape-user", "v")
    assert (result.exit_code, told) == (2, [])
    assert "--tape-password-file is needed where nobody can be asked" in result.stderr


def test_every_option_of_backup(mover: Run, told: Said, login: list[str], tmp_path: Path) -> None:
    tape_password = tmp_path / "tape"
    tape_password.write_text("verborgen\n")
    tape_password.chmod(0o600)
    result = mover(
        "backup", "/srv", *login[2:], "--data", "[::1]:10001", "--tape", "tapes:10002", "--data-listens",
        "--tape-user", "v", "--tape-password-file", str(tape_password),
        "--auth", "text", "--ndmp-version", "3", "--type", "tar", "-E", "A=b=c", "--env", "D=", "--record-size",
        "256KiB", "--history", "f", "--level", "2", "--overwrite", "--catalogue", str(tmp_path / "c"), "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    assert told == [
        BackupOptions(
            data=Server("::1", 10001), tape=Server("tapes", 10002), credentials=Credentials("u", "geheim", "text"),
            tape_credentials=Credentials("v", "verborgen", "text"),
            drive="vtl0/drive0", butype="tar", env=[("A", "b=c"), ("D", "")], max_version=3, data_listens=True,
            filesystem="/srv", record_size=262144, history="f", level=2, overwrite=True, catalogue=tmp_path / "c",
        )
    ]  # fmt: skip
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["bytes-processed"] == 3 << 20
    assert document["env"] == [["LEVEL", "0"], ["N", r"\xff"]]
    assert document["log"] == [{"kind": "normal", "text": "hello"}]


def test_recover_names_what_failed_and_fails(mover: Run, told: Said, login: list[str]) -> None:
    result = mover("recover", *login, "--destination", "/srv/r", "--rename", "a=b", "--job", "3", "x", "y")
    assert told == [
        RecoverOptions(
            data=Server("h"), credentials=Credentials("u", "geheim"), drive="vtl0/drive0", destination="/srv/r",
            names=["x", "y"], renames=[("a", "b")], job=3,
        )
    ]  # fmt: skip
    assert (result.exit_code, result.stdout) == (1, "1 of 2 names recovered, 100 B in 0:01:01, warnings: 0\n")
    assert result.stderr.splitlines()[-1] == r"not recovered: a\n\xff: FAILED_NOT_FOUND"


def test_recovering_everything_with_a_failure_is_not_everything(
    mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_options: object, **_: object) -> RecoverResult:
        return msgspec.structs.replace(RECOVER, requested=1, recovered=0, failed=[FailedName(b"", "FAILED_IO_ERROR")])

    monkeypatch.setattr("mover.dma.run_recover", run)
    result = mover("recover", *login)
    assert (result.exit_code, result.stdout) == (1, "not everything recovered, 100 B in 0:01:01, warnings: 0\n")
    assert result.stderr == "not recovered: /: FAILED_IO_ERROR\n"


def test_list_jobs_and_entries(mover: Run, told: Said, login: list[str]) -> None:
    epoch = _local_time(0).split()
    jobs = mover("list")
    entries = mover("list", "--job", "3", "/x*")
    taped = mover("list", "--tape-file", "1", *login, "--json")
    assert told == [
        ListOptions(),
        ListOptions(job=3, pattern="/x*"),
        ListOptions(
            from_tape=TapeListOptions(
                data=Server("h"), credentials=Credentials("u", "geheim"), drive="vtl0/drive0", tape_file=1
            )
        ),
    ]
    assert jobs.stdout.splitlines()[1].split() == [
        "3", *epoch, "successful", "dump", "2", "/srv", "h:10000", "h:10000", "vtl0/drive0", "1", "-", "10",
        "2",
    ]  # fmt: skip
    assert [line.split() for line in entries.stdout.splitlines()] == [
        ["dir", "0755", "0/0", "4096", *epoch, "/"],
        ["-", "-", "-", "-", "-", r"/x\x1b\xff"],
    ]
    documents = json.loads(taped.stdout)["entries"]
    assert [(each["path"], each["ftype"]) for each in documents] == [("/", "dir"), ("/x\x1b\\xff", None)]
    assert json.loads(mover("list", "--json").stdout)["jobs"][0]["filesystem"] == "/srv"


def test_a_relative_destination_is_refused(mover: Run, told: Said, login: list[str]) -> None:
    result = mover("recover", *login, "--destination", "out\n")
    assert (result.exit_code, result.stdout, told) == (2, "", [])
    assert result.stderr == "mover: --destination out\\n: expected an absolute path, as the server names it\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_pattern_that_matches_nothing_is_a_failure(
    mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    async def run(_options: object, **_: object) -> ListResult:
        return ListResult([JOB], [])

    monkeypatch.setattr("mover.dma.run_list", run)
    form = ["--json"] if as_json else []
    listed = mover("list", "--job", "3", "/x\n*", *form)
    assert (listed.exit_code, listed.stdout) == (1, '{"entries":[]}\n' if as_json else "")
    assert listed.stderr == "mover: nothing in the file history of job 3 matches /x\\n*\n"
    taped = mover("list", "--tape-file", "1", *login, "/x", *form)
    assert (taped.exit_code, taped.stderr) == (1, "mover: nothing in the file history of tape file 1 matches /x\n")
    assert mover("list", "--job", "3", *form).exit_code == 0


def test_the_size_of_what_has_no_content_is_not_shown(mover: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_options: object, **_: object) -> ListResult:
        return ListResult([JOB], [Entry(b"/d", ftype=FileType.DIR, size=0), Entry(b"/f", ftype=FileType.REG, size=0)])

    monkeypatch.setattr("mover.dma.run_list", run)
    lines = mover("list", "--job", "3").stdout.splitlines()
    assert [(line.split()[3], line.split()[-1]) for line in lines] == [("-", "/d"), ("0", "/f")]


def test_listing_a_job_that_failed_says_why(mover: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_options: object, **_: object) -> ListResult:
        return ListResult([msgspec.structs.replace(JOB, status="failed", message="no\x1b cartridge")], [])

    monkeypatch.setattr("mover.dma.run_list", run)
    result = mover("list", "--job", "3")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "job 3 is failed: no\\x1b cartridge\n")


def test_a_job_that_failed_is_one_line(mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(options: object, *, progress: object, log: object) -> object:
        raise JobError("no cartridge in the drive")

    monkeypatch.setattr("mover.dma.run_backup", run)
    result = mover("backup", "/srv", *login)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "mover: no cartridge in the drive\n"


@pytest.mark.parametrize(
    ("failure", "lines"),
    [
        ("data service halted (no cartridge)", ["mover: a file", "mover: data service halted (no cartridge)"]),
        ("something else", ["mover: a file", "mover: no cartridge", "mover: something else"]),
        ("", ["mover: a file", "mover: no cartridge"]),
    ],
)
def test_an_error_is_said_once(
    mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch, failure: str, lines: list[str]
) -> None:
    async def run(_: object, *, progress: Callable[[Progress], None], log: Callable[[LogLine], None]) -> object:
        for line in (LogLine("error", "a file"), LogLine("error", "no cartridge"), LogLine("debug", "mover: the same")):
            log(line)
        progress(Progress("finish"))
        if failure:
            raise JobError(failure)
        return BACKUP

    monkeypatch.setattr("mover.dma.run_backup", run)
    result = mover("backup", "/srv", *login)
    assert result.exit_code == bool(failure)
    assert [line for line in result.stderr.splitlines() if line != "finishing"] == lines


def test_a_copy_that_fails_says_its_reason_once(mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: object, *, progress: Callable[[Progress], None], log: Callable[[LogLine], None]) -> object:
        log(LogLine("error", "source: /nowhere: outside every volume of this server"))
        log(LogLine("normal", "destination: entries: 0 directories"))
        raise JobError("DATA_START_BACKUP: /nowhere: outside every volume of this server")

    monkeypatch.setattr("mover.dma.run_backup", run)
    assert mover("backup", "/srv", *login).stderr.splitlines() == [
        "destination: entries: 0 directories",
        "mover: DATA_START_BACKUP: /nowhere: outside every volume of this server",
    ]


def test_an_error_in_mid_job_is_said_while_it_runs(
    mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mover.cli.job_progress.HELD_S", 0.0)

    async def run(_: object, *, progress: Callable[[Progress], None], log: Callable[[LogLine], None]) -> object:
        log(LogLine("error", "a file"))
        progress(Progress("transfer"))
        return BACKUP

    monkeypatch.setattr("mover.dma.run_backup", run)
    assert mover("backup", "/srv", *login).stderr.splitlines() == ["mover: a file", "transferring"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_job(
    mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    cancelled = []

    async def run(_options: object, **_: object) -> BackupResult:
        try:
            with trio.fail_after(10):
                signal.raise_signal(number)
                await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(number)
            raise

    monkeypatch.setattr("mover.dma.run_backup", run)
    outside = signal.signal(number, signal.SIG_DFL)  # where the tests run under nohup it is ignored
    try:
        result = mover("backup", "/srv", *login)
        assert (result.exit_code, result.stderr, cancelled) == (1, f"mover: ended by {number.name}\n", [number])
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)


def test_ctrl_c_ends_a_job_with_one_line(mover: Run, login: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    async def run(_options: object, **_: object) -> BackupResult:
        try:
            with trio.fail_after(10):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()
        except KeyboardInterrupt:
            ended.append("in order")
            raise

    monkeypatch.setattr("mover.dma.run_backup", run)
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = mover("backup", "/srv", *login)
    finally:
        signal.signal(signal.SIGINT, outside)
    assert (result.exit_code, result.stderr, ended) == (1, "mover: ended by SIGINT\n", ["in order"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["backup", "/srv", "--host", "h:x"], "expected HOST[:PORT], got 'h:x'"),
        (["backup", "/srv", "--host", ":1"], "expected HOST[:PORT], got ':1'"),
        (["backup", "/srv", "--host", "h", "--drive", "d", "--user", "u"], "--password-file"),
        (["backup", "/srv", "-E", "A"], "expected NAME=VALUE, got 'A'"),
        (["recover", "--rename", "a"], "expected NAME=OTHER, got 'a'"),
        (["backup", "/srv", "--record-size", "1 mile"], "expected a size with a unit of"),
        (["backup", "/srv", "--record-size", "4GiB"], "expected at most 16777216 bytes, got '4GiB'"),
        (["backup", "/srv", "--record-size", "3"], "expected a multiple of 512 bytes, got '3'"),
        (["backup", "/srv", "--record-size", "65537"], "expected a multiple of 512 bytes, got '65537'"),
        (["backup", "/srv", "--record-size", "0"], "expected a size with a unit of"),
        (["backup", "/srv", "--level", "32"], "32 is not in the range 0<=x<=31"),
        (["recover", "--host", "h", "--drive", "d", "--user", "u", "--destination", ""], "--destination is empty"),
        (["recover", "--host", "h", "--drive", "d", "--user", "u", "a", ""], "a name is empty"),
        (["recover", "--tape-file", "4294967296"], "4294967296 is not in the range 0<=x<=4294967295"),
        (["list", "--job", f"{1 << 63}"], f"{1 << 63} is not in the range"),
        (["backup", "/srv", "--host", "h", "--drive", "d", "--user", "u", "--data-listens"], "needs --tape-host"),
        (["backup", "/srv", *SERVER, "--tape-user", "v", "--no-extensions"], "--tape-user needs --tape-host"),
        (
            ["backup", "/srv", *SERVER, "--tape-host", "t", "--tape-password-file", os.devnull],
            "--tape-password-file needs --tape-user",
        ),
        (["list", "--tape-file", "1"], "--tape-file needs --host"),
        (["list", "--host", "h"], "--host needs --tape-file"),
        (["list", "/x"], "PATTERN needs --job or --tape-file"),
        (["list", "--job", "1", "--tape-file", "1"], "exclude each other"),
        (["recover", "--host", "h", "--drive", "d", "--user", "u", "--type", "tar"], "--type needs --tape-file"),
        (
            ["recover", "--host", "h", "--drive", "d", "--user", "u", "--job", "1", "--type", "tar"],
            "--type needs --tape-file",
        ),
        (["backup", "/srv", *SERVER, "--wait", "5"], "--wait needs --changer or --labels"),
        (["backup", "/srv", *SERVER, "--keep", "0"], "--keep needs --changer or --labels"),
        (["backup", "/srv", *SERVER, "--new-cartridge"], "--new-cartridge needs --changer or --labels"),
        (["backup", "/srv", *SERVER, "--drive-element", "1"], "--drive-element needs --changer"),
        (["backup", "/srv", *SERVER, "--labels", "--overwrite"], "--overwrite is not for labelled cartridges"),
        (["recover", *SERVER, "--tape-file", "1", "--changer", "c"], "--tape-file reads what is in the drive"),
        (["cartridge", "label", *SERVER], "one NAME is needed"),
        (["cartridge", "label", *SERVER, "--changer", "c", "--overwrite"], "--overwrite needs the NAMES"),
        (["cartridge", "inventory", *SERVER], "Missing option '--changer'"),
    ],
)
def test_wrong_usage(mover: Run, told: Said, arguments: list[str], text: str) -> None:
    result = mover(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())
    assert told == []


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        ("geheim", 0o644, "refused, because others can read it (chmod o-r)"),
        ("\n", 0o600, "expected the password as its first line, in UTF-8"),
        (None, 0, "No such file or directory"),
    ],
)
def test_a_password_file_that_will_not_do(
    mover: Run, told: Said, login: list[str], content: str | None, mode: int, text: str
) -> None:
    path = Path(login[-1])
    if content is None:
        os.unlink(path)
    else:
        path.write_text(content)
        path.chmod(mode)
    result = mover("backup", "/srv", *login[:-2], env={"MOVER_PASSWORD_FILE": str(path)})
    assert (result.exit_code, result.stderr, told) == (1, f"mover: {path}: {text}\n", [])
