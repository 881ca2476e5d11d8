"""Who is looked at: a configuration, and what the server that runs by it says of itself."""

from typing import NamedTuple, Self, TypeVar

from mover.admin.accounts import UserShow, UserShowReply
from mover.admin.client import AdminClient, NoControlProcessError, RefusedError
from mover.admin.messages import Reply, Request, Version, VersionReply
from mover.admin.tapes import LibraryShow, LibraryShowReply, TapeShow, TapeShowReply
from mover.config import Config

ASK_S = 15.0  # a list of devices waits for those that do not answer

_Reply = TypeVar("_Reply", bound=Reply)


class Patient(NamedTuple):
    """What the checks look at.

    Attributes:
        server: None = no server answers at the admin socket; so are then the other three.
        silent: why none does.
        unasked: of what the server did not answer, a line each.
    """

    config: Config
    server: VersionReply | None = None
    tapes: TapeShowReply | None = None
    libraries: LibraryShowReply | None = None
    users: UserShowReply | None = None
    silent: str = ""
    unasked: tuple[str, ...] = ()

    @classmethod
    def meet(cls, config: Config, admin_socket: str) -> Self:
        """Ask the server, if one runs. Blocks, for a minute at the most."""
        unasked: list[str] = []

        def ask(client: AdminClient, request: Request, reply: type[_Reply]) -> _Reply | None:
            try:
                answer = client.ask(request)
            except (RefusedError, NoControlProcessError) as error:
                unasked.append(f"{type(request).__name__}: {error}")
                return None
            return answer if isinstance(answer, reply) else None

        try:
            with AdminClient(admin_socket, ASK_S) as client:
                server = ask(client, Version(), VersionReply)
                if server is None:
                    return cls(config, silent=unasked[0] if unasked else f"{admin_socket} is no server's")
                tapes = ask(client, TapeShow(), TapeShowReply)
                libraries = ask(client, LibraryShow(), LibraryShowReply)
                users = ask(client, UserShow(), UserShowReply)
                return cls(config, server, tapes, libraries, users, unasked=tuple(unasked))
        except NoControlProcessError as error:
            return cls(config, silent=str(error))
