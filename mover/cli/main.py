"""The command `mover`: a group that imports a command's module only when that command is called.

A start costs what it imports, and shell completion starts the program at every TAB.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Final  # Any: click's own arguments

import click

import mover
from mover.cli.streams import guard_standard_streams

COMMANDS: Final = {
    "serve": "mover.cli.serve:serve",
    "version": "mover.cli.version:version",
    "status": "mover.cli.status:status",
    "probe": "mover.cli.status:probe",
    "top": "mover.cli.top.command:top",
    "kill": "mover.cli.status:kill",
    "kill-all": "mover.cli.status:kill_all",
    "on": "mover.cli.options:on",
    "off": "mover.cli.options:off",
    "show": "mover.cli.options:show",
    "modify": "mover.cli.options:modify",
    "extensions": "mover.cli.extensions:extensions",
    "jobs": "mover.cli.job_summaries:jobs",
    "log": "mover.cli.protocol_log:log",
    "user": "mover.cli.users:user",
    "role": "mover.cli.users:role",
    "generate-password": "mover.cli.users:generate_password",
    "tape": "mover.cli.tape:tape",
    "library": "mover.cli.library:library",
    "dumpdates": "mover.cli.dump_dates:dumpdates",
    "node": "mover.cli.cluster:node",
    "volume": "mover.cli.cluster:volume",
    "backup": "mover.cli.jobs:backup",
    "recover": "mover.cli.jobs:recover",
    "list": "mover.cli.jobs:list_",
    "cartridge": "mover.cli.cartridges:cartridge",
    "copy": "mover.cli.copy:copy",
    "conformance": "mover.cli.conformance:conformance",
    "replay": "mover.cli.replay:replay",
    "doctor": "mover.cli.doctor:doctor",
    "explain": "mover.cli.explain:explain",
}


class LazyGroup(click.Group):
    """A group whose commands are named as ``module:attribute`` and imported when asked for."""

    def __init__(self, *args: Any, commands_in: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands_in:
            return None
        module, _, attribute = self._commands_in[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class Program(LazyGroup):
    """The outermost group, which begins with the process's own streams."""

    def main(self, *args: Any, **extra: Any) -> Any:
        guard_standard_streams()
        return super().main(*args, **extra)


@click.group(cls=Program, commands_in=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mover.__version__, prog_name="mover", message="%(prog)s %(version)s")
def main() -> None:
    """An NDMP server for Linux, and the commands that operate it.

    Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 no control process reached.
    """
