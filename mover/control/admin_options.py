"""The commands `mover show`, `modify`, `on` and `off`: the options of the node and of vservers."""

from typing import Final

import structlog
import trio

from mover.admin import messages as a
from mover.admin import options
from mover.config.options import OPTIONS
from mover.control.node import Node
from mover.control.options import OptionError
from mover.control.store import StoreError
from mover.control.tls_identity import IdentityError

SECURE: Final = "is-secure-control-connection-enabled"

log = structlog.get_logger()


def no_vserver(node: Node, vserver: str) -> a.Failed | None:
    """The refusal where there is no vserver of this name; None = there is, or the node is meant."""
    names = [each.name for each in node.config.vserver]
    if not vserver or vserver in names:
        return None
    return a.Failed("not-found", f"there is no vserver {vserver} (vservers: {', '.join(names) or 'none'})")


def show(node: Node, request: options.OptionsShow) -> a.Reply:
    """Every option with its value and origin."""
    if request.vserver is not None and (failed := no_vserver(node, request.vserver)):
        return failed
    every = ["", *(each.name for each in node.config.vserver)]
    return options.OptionsReply(
        [
            _status(node, vserver, name)
            for vserver in (every if request.vserver is None else [request.vserver])
            for name, option in OPTIONS.items()
            if vserver or option.node is not None
        ]
    )


def _status(node: Node, vserver: str, name: str) -> options.OptionStatus:
    value, origin = node.options.value(node.config, vserver, name)
    return options.OptionStatus(vserver=vserver, option=name, value=value, origin=origin)


async def modify(node: Node, request: options.OptionsModify, operator: int) -> a.Reply:
    """Change options, and let new connections have them."""
    if failed := no_vserver(node, request.vserver):
        return failed
    names = [*request.changes, *request.reset]
    undoing = node.options.undoing(request.vserver, names)
    try:
        await node.options.change(request.vserver, request.changes, request.reset)
        await trio.to_thread.run_sync(node.configure, node.options.configured)
        try:
            if SECURE in names:  # with nothing else a certificate that is broken by now has to do
                await node.secure_ports.configure(node.config)
        except (IdentityError, OSError) as error:
            await node.options.change(request.vserver, *undoing)
            await trio.to_thread.run_sync(node.configure, node.options.configured)
            return a.Failed("failed", f"no secure port: {error}")
    except OptionError as error:
        return a.Failed("refused", str(error))
    except StoreError as error:
        return a.Failed("failed", str(error))
    node.audit.event(
        "operator",
        what="OptionsModify",
        target=request.vserver,
        changed=" ".join(f"{name}={text}" for name, text in request.changes.items()),
        reset=" ".join(request.reset),
        result="done",
        uid=operator,
    )
    log.info("options changed", vserver=request.vserver, changed=request.changes, reset=request.reset, uid=operator)
    where = f"vserver {request.vserver}" if request.vserver else "the node"
    told = [f"{name} = {node.options.value(node.config, request.vserver, name)[0]}" for name in names]
    return a.Done(f"{where}: {', '.join(told) or 'nothing to change'}; counts for new connections", names)
