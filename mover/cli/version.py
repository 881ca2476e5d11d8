"""`mover version`: this program's version and, where one runs, the control process's."""

import click

import mover
from mover.admin.messages import Version, VersionReply
from mover.cli.control_process import admin_socket_option, ask, json_option
from mover.cli.failure import NoControlProcess
from mover.cli.output import print_json


@click.command()
@click.option("--vserver", metavar="V", help="The versions that its LIFs offer [default: the node's].")
@admin_socket_option
@json_option
def version(vserver: str | None, admin_socket: str | None, as_json: bool) -> None:
    """Show the version of mover and the NDMP versions it serves."""
    running: VersionReply | None = None
    try:
        running = ask(admin_socket, Version(vserver or ""), VersionReply)
    except NoControlProcess:
        if admin_socket is not None or vserver is not None:
            raise
    if as_json:
        server = running and {
            "version": running.version,
            "node": running.node,
            "pid": running.pid,
            "ndmp-versions": running.ndmp_versions,
            "certificate-fingerprint": running.certificate_fingerprint,
        }
        print_json({"version": mover.__version__, "server": server})
        return
    click.echo(f"mover {mover.__version__}")
    if running is None:
        click.echo("no control process is running")
    else:
        versions = ", ".join(map(str, running.ndmp_versions))
        click.echo(f"{running.node} runs mover {running.version} (pid {running.pid}), NDMP versions {versions}")
        if running.certificate_fingerprint:
            click.echo(f"certificate of its secure ports (SHA-256): {running.certificate_fingerprint}")
