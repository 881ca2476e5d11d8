"""How a command ends when it cannot do its work: one line on standard error and an exit status."""

from typing import IO, Any  # Any: click's own signature

import click

from mover.cli.output import printable


class Failure(click.ClickException):
    """The command did not do its work; the text is the line to print."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mover: {printable(self.message)}", file=file, err=True)


class WrongConfiguration(Failure):
    """The configuration or the options cannot be used."""

    exit_code = 2


class NoControlProcess(Failure):
    """No control process was reached."""

    exit_code = 3
