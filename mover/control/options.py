"""What operators have changed of the options, over what the configuration file says."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

import structlog
import trio

from mover.config import Config, ConfigError, options
from mover.config.checks import check_consistency
from mover.config.options import NOT_APPLICABLE, OPTIONS, Origin
from mover.control import option_table
from mover.control.option_table import Key
from mover.control.store import Store

BY: Final = "mover modify"

log = structlog.get_logger()


class OptionError(Exception):
    """What an operator asked for is not done; one line."""


class ChangedOptions:
    """The options that were changed, in the store.

    Args:
        store: None = none were and none can be, for tests.

    Attributes:
        configured: the configuration without them.
    """

    def __init__(self, config: Config, store: Store | None = None) -> None:
        self.configured = config
        self._store = store
        self._changes: dict[Key, str] = {}
        self._without: set[Key] = set()  # those that contradict the configuration
        self._changing = trio.Lock()

    async def load(self) -> None:
        """Read what the store has. Raises StoreError."""
        if self._store is None:
            return
        for key, text in (await self._store.run(option_table.read_options)).items():
            try:
                options.parse_change(*key, text)
            except ValueError as error:  # of another version of mover
                log.warning("changed option not taken", vserver=key[0], why=str(error))
            else:
                self._changes[key] = text

    def configure(self, config: Config) -> Config:
        """Take a configuration; returns it with the changes, but those that contradict it: what is off stays off."""
        self.configured = config
        self._without = set()
        try:
            return self._checked(self._changes)
        except OptionError:
            counting: dict[Key, str] = {}
            for key, text in self._changes.items():
                try:
                    config = self._checked({**counting, key: text})
                except OptionError as error:
                    self._without.add(key)
                    log.error("changed option does not count: it contradicts the configuration", why=str(error))
                else:
                    counting[key] = text
            return config

    def _checked(self, changes: Mapping[Key, str]) -> Config:
        try:
            config = options.with_changes(self.configured, changes)
            check_consistency(BY, config)
        except (ValueError, ConfigError) as error:
            raise OptionError(str(error)) from None
        return config

    def value(self, config: Config, vserver: str, name: str) -> tuple[str, Origin]:
        """An option as it is shown, and where it comes from. Raises KeyError: there is none such."""
        option = OPTIONS[name]
        text = option.show(options.read(config, option, vserver))
        if (vserver, name) in self._changes.keys() - self._without:
            return text, "modified"
        return text, "config" if options.is_given(self.configured, option, vserver) else "default"

    def undoing(self, vserver: str, names: Collection[str]) -> tuple[dict[str, str], list[str]]:
        """What :meth:`change` takes to have these options again as they are now: values, and which to reset."""
        before = {name: self._changes[vserver, name] for name in names if (vserver, name) in self._changes}
        return before, [name for name in names if name not in before]

    async def change(self, vserver: str, changed: Mapping[str, str], reset: Collection[str]) -> None:
        """Change options of a vserver, of the node for ""; they count when :meth:`configure` is called next.

        Raises:
            OptionError: one of them cannot be, and nothing has changed.
            StoreError: they cannot be kept.
        """
        for name in reset:
            if name in NOT_APPLICABLE or name not in OPTIONS:
                raise OptionError(f"{name}: there is no such option to reset")
        if twice := sorted(set(changed) & set(reset)):
            raise OptionError(f"{twice[0]}: either a value or a reset")
        async with self._changing:
            new = {(vserver, name): text for name, text in changed.items()}
            gone = {(vserver, name) for name in reset}
            changes = {**{key: text for key, text in self._changes.items() if key not in gone}, **new}
            self._checked(changes)
            if self._store is not None:
                await self._store.run(partial(option_table.change_options, changed=new, reset=gone))
            self._changes = changes
