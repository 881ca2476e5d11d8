"""`mover doctor`: looks over configuration, host and server, and says what to do."""

import os
from itertools import chain

import click

from mover.cli.control_process import CONFIG_DEFAULT, admin_socket_option, json_option
from mover.cli.failure import WrongConfiguration
from mover.cli.output import print_json, printable
from mover.cli.paths import FILE
from mover.config import Config, ConfigError, load_config

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@click.option("--config", "path", envvar="MOVER_CONFIG", metavar="FILE", type=FILE, help="The configuration, TOML.")
@click.option("--all", "show_all", is_flag=True, help="Also what is as it should be.")
@admin_socket_option
@json_option
@click.pass_context
def doctor(
    context: click.Context, path: str | None, admin_socket: str | None, *, show_all: bool, as_json: bool
) -> None:
    """Look for what is wrong, or will be, and say what to do.

    Looks at configuration, directories, devices, ports, rights, certificates, users and the server, if it runs.
    Changes nothing. Exit status 1 where there is an error, 0 where there are warnings only.
    """
    config = _configuration(path)
    from mover.doctor.examination import examine
    from mover.doctor.patient import Patient
    from mover.doctor.places import no_configuration

    looked_at = config or Config()
    patient = Patient.meet(looked_at, admin_socket or looked_at.node.admin_socket)
    findings = examine(patient)
    if config is None:
        findings = chain([("environment", no_configuration(patient, CONFIG_DEFAULT))], findings)
    counts = dict.fromkeys(_COLOURS, 0)
    rows = []
    for check, finding in findings:
        counts[finding.level] += 1
        rows.append({"check": check, **{name: getattr(finding, name) for name in finding.__struct_fields__}})
        if not as_json and (show_all or finding.level != "ok"):
            level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
            action = f"; {finding.action}" if finding.action else ""
            click.echo(f"{level}{printable(f'{finding.subject}: {finding.text}{action}')}")
    if as_json:
        print_json({"findings": rows, "counts": counts})
    else:
        found = ", ".join(
            f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in ("error", "warning")
        )
        click.echo(f"{found}, {counts['ok']} as it should be")
    context.exit(1 if counts["error"] else 0)


def _configuration(path: str | None) -> Config | None:
    """That of the option, else the usual one; None where that is not there."""
    try:
        if not path:
            os.stat(CONFIG_DEFAULT)
    except FileNotFoundError:
        return None
    except OSError:
        pass  # it may be there, and the reading says why not: its directory is for root alone
    try:
        return load_config(path or CONFIG_DEFAULT)
    except ConfigError as failed:
        raise WrongConfiguration(str(failed)) from None
