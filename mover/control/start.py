"""What a server needs before it serves: its directories, what is stored there, and its place in the cluster."""

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from mover.config import Config
from mover.control.accounts import Accounts
from mover.control.cluster import Cluster
from mover.control.holding import HeldError, hold
from mover.control.options import ChangedOptions
from mover.control.registry import Registry, RegistryError
from mover.control.store import Store, StoreError, open_store


class StartError(Exception):
    """The server cannot start; one line that names the thing and what is wrong with it."""


def hold_directories(stack: AsyncExitStack, config: Config) -> None:
    """The state and the cartridges are ours alone, or there is no start. Raises StartError."""
    state = config.node.state_directory
    wanted = [(f"state directory {state}", state)]
    wanted += [
        (f"library {library.name}: {library.directory}", library.directory)
        for library in config.library
        if os.path.realpath(library.directory) != os.path.realpath(state)
    ]
    for name, directory in wanted:
        try:
            if directory == state:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            stack.enter_context(hold(directory))
        except HeldError:
            raise StartError(f"{name}: in use by another mover serve, or named twice") from None
        except OSError as error:
            raise StartError(f"{name}: {error.strerror}") from error


@asynccontextmanager
async def open_state(directory: str) -> AsyncIterator[Store]:
    """The state directory's inventory and all that is stored with it. Raises StartError."""
    try:
        opened = open_store(directory)
        store = await opened.__aenter__()
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"state directory {directory}: {error}") from error
    try:
        yield store
    finally:
        await opened.__aexit__(None, None, None)


@asynccontextmanager
async def join_cluster(config: Config) -> AsyncIterator[Cluster]:
    """Be a node of the cluster, or of none. Raises StartError."""
    directory = config.node.cluster_directory
    cluster = Cluster(config.node.name, Registry(directory, config.node.name) if directory else None)
    try:
        await cluster.join()
    except RegistryError as error:
        raise StartError(f"cluster directory {error}") from error
    except trio.TooSlowError:
        raise StartError(f"cluster directory {directory}: does not answer") from None
    except OSError as error:
        raise StartError(f"cluster directory {error.filename or directory}: {error.strerror}") from error
    try:
        yield cluster
    finally:
        await cluster.leave()


async def load(kept: ChangedOptions | Accounts) -> None:
    """What operators have changed and made, from the store. Raises StartError."""
    try:
        await kept.load()
    except StoreError as error:
        raise StartError(str(error)) from error
