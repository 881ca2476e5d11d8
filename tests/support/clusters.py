"""Nodes of one cluster on this machine: real servers that share a cluster directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.servers import Login, write_config

ROLES = ("cluster-mgmt", "intercluster")


def user(login: Login, role: str, vservers: str = "") -> str:
    return f'[[user]]\nname = "{login.user}"\nrole = "{role}"\npassword = "{login.password}"\nvservers = [{vservers}]\n'


def lif(name: str, role: str, vserver: str = "") -> str:
    return f'[[lif]]\nname = "{name}"\nport = 0\nrole = "{role}"\nvserver = "{vserver}"\n'


def vserver(name: str, volumes: Mapping[str, Path], shared: Sequence[str] = ()) -> str:
    table = ", ".join(f'{each} = "{path}"' for each, path in volumes.items())
    names = ", ".join(f'"{each}"' for each in shared)
    return f'[[vserver]]\nname = "{name}"\nvolumes = {{ {table} }}\nshared_volumes = [{names}]\n'


def write_node(
    directory: Path,
    name: str,
    login: Login,
    *,
    volumes: Mapping[str, Path],
    shared: Sequence[str] = (),
    drives: int = 1,
    address: str = "127.0.0.1",
    extra: str = "",
) -> Path:
    """The configuration of one node of the cluster in ``directory``, with LIFs of the roles that belong to no vserver.

    Its only LIF of write_config is the node-mgmt one.
    """
    cluster = directory / "cluster"
    cluster.mkdir(exist_ok=True)
    names = ", ".join(f'"{each}"' for each in shared)
    return write_config(
        directory / name,
        login,
        volumes=volumes,
        drives=drives,
        address=address,
        node=f'cluster_directory = "{cluster}"\nshared_volumes = [{names}]\n',
        extra="\n".join([*(lif(role, role) for role in ROLES), extra]),
    )
