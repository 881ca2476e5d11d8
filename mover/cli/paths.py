"""Parameters that name files: a shell completes them; what is wrong with one the command itself says."""

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FILE: Final = click.Path(readable=False)


def directories(_: click.Context, __: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Of this host: of another server's nothing is known."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="dir")]
