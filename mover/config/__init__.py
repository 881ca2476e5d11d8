"""The TOML configuration: structs, defaults, errors."""

from mover.config.environment import check_environment
from mover.config.errors import ConfigError
from mover.config.load import load_config, parse_config, socket_in
from mover.config.model import (
    Authentication,
    Changer,
    Config,
    DataConnections,
    Drive,
    Fault,
    Library,
    Lif,
    Limits,
    Node,
    Service,
    Snapshot,
    Tls,
    User,
    Vserver,
)
from mover.config.values import PortRange, Secret

__all__ = [
    "Authentication",
    "Changer",
    "Config",
    "ConfigError",
    "DataConnections",
    "Drive",
    "Fault",
    "Library",
    "Lif",
    "Limits",
    "Node",
    "PortRange",
    "Secret",
    "Service",
    "Snapshot",
    "Tls",
    "User",
    "Vserver",
    "check_environment",
    "load_config",
    "parse_config",
    "socket_in",
]
