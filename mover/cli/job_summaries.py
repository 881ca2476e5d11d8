"""`mover jobs`: what was backed up and recovered lately, and what came of it."""

import time

import click
import msgspec

from mover.admin.jobs import Jobs, JobsReply, JobStatus
from mover.cli.completion import vservers
from mover.cli.control_process import admin_socket_option, ask, json_option
from mover.cli.output import print_json, print_table, shown


@click.command()
@click.option("--job-id", type=click.IntRange(1), metavar="ID", help="Everything that is known of this job.")
@click.option("--vserver", metavar="V", shell_complete=vservers, help="Only the jobs of this vserver.")
@admin_socket_option
@json_option
def jobs(job_id: int | None, vserver: str | None, admin_socket: str | None, as_json: bool) -> None:
    """Show the jobs of the server, the last 256, a line each.

    The number of a job is the one in brackets in the backup log.
    """
    found = ask(admin_socket, Jobs(job_id), JobsReply).jobs
    found = [each for each in found if vserver in {None, each.vserver}]
    if as_json:
        print_json({"jobs": [msgspec.to_builtins(each) for each in found]})
    elif job_id is not None:
        for each in found:
            _print_whole(each)
    elif found:
        _print_table(found)
    else:
        click.echo("no jobs")


def _print_table(found: list[JobStatus]) -> None:
    print_table(
        [
            "job-id",
            "vserver",
            "operation",
            "type",
            "level",
            "state",
            "started",
            "seconds",
            "entries",
            "stream-bytes",
            "errors",
            "path",
        ],
        [
            [
                each.number,
                each.vserver,
                each.operation,
                each.backup_type,
                each.level,
                each.state,
                _time(each.started),
                each.elapsed_seconds,
                sum(each.entries.values()),
                each.stream_bytes,
                each.errors,
                each.path,
            ]
            for each in found
        ],
    )


def _print_whole(job: JobStatus) -> None:
    """Every field, those that hold several values below it."""
    fields = msgspec.to_builtins(job)
    plain = {name: value for name, value in fields.items() if not isinstance(value, (dict, list))}
    plain |= {"started": _time(job.started), "ended": _time(job.ended)}
    width = max(map(len, fields))
    for name, value in plain.items():
        click.echo(f"{name.rjust(width)}: {shown(value)}")
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            told = ", ".join(f"{shown(what)} {count}" for what, count in value.items())
            click.echo(f"{name.rjust(width)}: {told}")
    if job.sizes:
        click.echo()
        print_table(
            ["from-bytes", "to-bytes", "files"], [[each.from_bytes, each.to_bytes, each.files] for each in job.sizes]
        )
    for cause in job.error_causes:
        errors = f"{cause.count} {'error' if cause.count == 1 else 'errors'}: {shown(cause.cause)}"
        click.echo(f"\n{errors}{', first of them:' if cause.paths else ''}")
        for path in cause.paths:
            click.echo(f"  {shown(path)}")


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
