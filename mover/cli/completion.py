"""What a shell completes: its script, and the names that only a running control process knows.

A TAB asks the control process and waits for half a second at the most. Where none answers, or refuses, nothing is
offered and nothing is said: the line that is being typed belongs to who types it.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from mover.admin import AdminClient, NoControlProcessError, RefusedError
from mover.admin.messages import Reply, Request
from mover.admin.options import OptionsReply, OptionsShow
from mover.admin.sessions import Status, StatusReply
from mover.admin.tapes import LibraryShow, LibraryShowReply, TapeShow, TapeShowReply
from mover.cli.control_process import configured_socket
from mover.cli.failure import Failure

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_MOVER_COMPLETE"
WAIT_S: Final = 0.5
MENDED: Final = {
    # A function that was loaded is called as one from its second time on; click's does nothing then.
    "zsh": {"zsh_eval_context[-1] == loadautofunc": "zsh_eval_context[-1] == (loadautofunc|shfunc)"},
    # Most descriptions go on behind a comma, where click's end.
    "fish": {'string split ","': 'string split --max 1 ","'},
}
"""Shell -> what click's script says, and what it is to say."""


def completion_script(shell: str) -> str:
    """The script that makes a shell complete `mover`, made from click's own; for one of SHELLS."""
    from click.shell_completion import get_completion_class

    from mover.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(main, {}, "mover", VARIABLE)
    script = str(complete.source_template % complete.source_vars())
    for theirs, ours in MENDED.get(shell, {}).items():
        script = script.replace(theirs, ours)
    return script


def _ask(context: click.Context, request: Request) -> Reply | None:
    """None = no answer, whatever the reason."""
    given = context.params.get("admin_socket") or os.environ.get("MOVER_ADMIN_SOCKET")  # jobs have no such option
    try:
        path = given if isinstance(given, str) else configured_socket()
        with AdminClient(path, WAIT_S) as client:
            return client.ask(request)
    except (NoControlProcessError, RefusedError, Failure):
        return None


def _items(names: Iterable[tuple[str, str]], begun: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=meaning) for name, meaning in names if name.startswith(begun)]


def drives(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Names of drives."""
    reply = _ask(context, TapeShow())
    return _items(((each.name, each.state) for each in reply.drives), begun) if isinstance(reply, TapeShowReply) else []


def barcodes(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Cartridges of the libraries."""
    reply = _ask(context, TapeShow())
    if not isinstance(reply, TapeShowReply):
        return []
    return _items(((each.barcode, each.library) for each in reply.cartridges), begun)


def drives_cartridges_or_files(
    context: click.Context, parameter: click.Parameter, begun: str
) -> "list[CompletionItem]":
    """What `mover tape ls` and the like take; files where no name begins like that."""
    from click.shell_completion import CompletionItem

    found = [*drives(context, parameter, begun), *barcodes(context, parameter, begun)]
    return found or [CompletionItem(begun, type="file")]


def libraries(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Names of libraries."""
    reply = _ask(context, LibraryShow(None))
    return _items(((each.name, "") for each in reply.libraries), begun) if isinstance(reply, LibraryShowReply) else []


def sessions(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Session ids."""
    reply = _ask(context, Status(None))
    if not isinstance(reply, StatusReply):
        return []
    return _items(
        ((str(each.session_id), f"{each.client_addr} {each.data_operation}") for each in reply.sessions), begun
    )


def vservers(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Names of vservers."""
    reply = _ask(context, OptionsShow(None))
    if not isinstance(reply, OptionsReply):
        return []
    return _items(((name, "") for name in sorted({each.vserver for each in reply.options} - {""})), begun)
