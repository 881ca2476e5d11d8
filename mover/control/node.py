"""What all connections of a control process share."""

import itertools
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Final

from mover.config import Config, Lif
from mover.control import dump_dates
from mover.control.accounts import Accounts
from mover.control.audit import AuditLog
from mover.control.cluster import Cluster
from mover.control.drives import Devices
from mover.control.hung import HungDevices
from mover.control.identities import Identities
from mover.control.job_book import JobBook
from mover.control.login_watch import source_of
from mover.control.logins import Logins
from mover.control.options import ChangedOptions
from mover.control.recover_tables import DIRECTORY, RecoverTables
from mover.control.scopes import Scope, scopes_of
from mover.control.scsi_bus import ScsiBus
from mover.control.secure_ports import SecurePorts
from mover.control.snapshots import Snapshots
from mover.control.sockets import AllowList
from mover.control.statistics import Statistics
from mover.control.workers import Supervisor

if TYPE_CHECKING:
    from mover.control.connection import Connection

STRANGERS_PART: Final = 4
"""This part of the sessions is not for one source's connections without a login."""


class Node:
    """This server.

    Attributes:
        config: as read last, with what operators have changed; a connection keeps the one it began with.
        options: what operators have changed; None = nothing, for tests.
        scopes: what the configuration gives to connections, by the vserver of their LIF.
        snapshots: of backups; None = a node that makes none, for tests.
        accounts: the users; None = those of the configuration only, for tests.
        clients: where DMAs may come from.
        secure_ports: of the LIFs; None = none, for tests.
        cluster: the other nodes; None = there are none.
        connections: the NDMP connections by session id.
        jobs: what was backed up and recovered lately.
        statistics: what this server does, in numbers.
        stopping: no new connections.
    """

    def __init__(
        self,
        config: Config,
        supervisor: Supervisor,
        devices: Devices,
        snapshots: Snapshots | None = None,
        accounts: Accounts | None = None,
        secure_ports: SecurePorts | None = None,
        options: ChangedOptions | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster or Cluster(config.node.name)
        self.options = options or ChangedOptions(config)
        self.jobs = JobBook(config.node)
        self.accounts = accounts or Accounts(config)
        self.logins = Logins(config, self.accounts)
        self.audit = AuditLog(config.node.state_directory)
        self.secure_ports = secure_ports or SecurePorts()
        self.devices = devices
        self.configure(config)
        self.supervisor = supervisor
        self.snapshots = snapshots
        self.connections: dict[int, Connection] = {}
        self.statistics = Statistics(self)
        self.stopping = False
        self.started = time.time()
        self._session_ids = itertools.count(1)

    def configure(self, config: Config) -> None:
        """Take a configuration. Blocks while it looks for symbolic links in the volumes' paths.

        Done here and not for each connection: a file server that has gone would stop everything at each.
        """
        config = self.options.configure(config)
        self.cluster.configure(config)
        self.scopes = scopes_of(config, self.cluster)
        self.config = config
        self.jobs.configure(config.node)
        self.accounts.configure(config)
        self.logins.configure(config)
        self.clients = AllowList(config.authentication.allow, config.lif)
        self.devices.rehearse(config.fault)

    @cached_property
    def recover_tables(self) -> RecoverTables:
        """What recovers of everything have left in their destinations."""
        return RecoverTables(os.path.join(self.config.node.state_directory, DIRECTORY))

    @cached_property
    def dump_dates(self) -> dump_dates.DumpDates:
        """What backups can be based on."""
        return dump_dates.DumpDates(os.path.join(self.config.node.state_directory, dump_dates.DIRECTORY))

    @cached_property
    def hung(self) -> HungDevices:
        """Devices that do not answer."""
        return HungDevices(self.supervisor)

    @cached_property
    def identities(self) -> Identities:
        """Who the real devices say they are."""
        return Identities(self.supervisor, self.hung, [*self.devices, *self.devices.own_changers])

    @cached_property
    def scsi_bus(self) -> ScsiBus:
        """Where the devices answer to CDBs."""
        return ScsiBus(self)

    def scope(self, lif: Lif) -> Scope:
        """What a connection to a LIF has."""
        return self.scopes[lif.vserver]

    def refusal(self, lif: Lif, peer: str) -> str | None:
        """Why a LIF takes no connection from an address now; None = it takes one."""
        if self.stopping:
            return "shutting down"
        if len(self.connections) >= self.config.limits.sessions:
            return "too many sessions"
        if not self.config.node.enable:
            return "the NDMP service is off"
        if self._strangers(peer) >= self.config.limits.sessions - self.config.limits.sessions // STRANGERS_PART:
            return "too many sessions without a login"
        return self.scope(lif).refusal([each.vserver for each in self.connections.values()])

    def _strangers(self, peer: str) -> int:
        """How many connections from where this peer is have not logged in."""
        waiting = [each for each in self.connections.values() if not each.protocol.authenticated]
        return [source_of(each.peer_address) for each in waiting].count(source_of(peer)) if waiting else 0

    def end_barred_sessions(self) -> list[str]:
        """End the sessions of users who may not log in there any more; returns their users, one for each session."""
        ended = []
        for connection in list(self.connections.values()):
            reason = self.logins.why_not_stay(connection)
            if reason is not None:
                user = connection.authenticated_as
                connection.log.warning("session ended: its user may not log in any more", user=user, reason=reason)
                self.audit.event(
                    "kill", session=connection.session_id, user=user, client=connection.peer_address, reason=reason
                )
                connection.end()
                ended.append(user)
        return ended

    def next_session_id(self) -> int:
        """A number that no other connection of this process has had."""
        return next(self._session_ids)
