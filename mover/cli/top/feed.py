"""The live view's side of the admin socket: questions of an event loop that must not wait."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from mover.admin import NoControlProcessError, RefusedError
from mover.admin.messages import (
    REPLY_BYTES_MAX,
    Failed,
    MessageError,
    Reply,
    Request,
    decode_reply,
    encode_request,
)

ANSWER_S: Final = 10.0  # for figures; a server that takes longer is said not to answer
KILL_S: Final = 60.0  # for the end of a session, which takes up to the grace time

_Reply = TypeVar("_Reply", bound=Reply)


class Feed:
    """One connection to the control process, made when it is needed and made anew when it was lost."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request, reply: type[_Reply], timeout_s: float = ANSWER_S) -> _Reply:
        """Send a request and wait for its reply; one question at a time.

        Raises:
            NoControlProcessError: nobody is there, or no such reply came.
            RefusedError: the reply is Failed.
        """
        answered = False
        try:
            async with asyncio.timeout(timeout_s):
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(self._path, limit=REPLY_BYTES_MAX)
                reader, writer = self._streams
                writer.write(encode_request(request))
                await writer.drain()
                line = await reader.readline()
            if not line.endswith(b"\n"):
                raise NoControlProcessError(f"the control process at {self._path} ended the connection")
            answer = decode_reply(line)
            answered = True
        except TimeoutError:
            raise NoControlProcessError(
                f"the control process at {self._path} did not answer within {timeout_s:g} s"
            ) from None
        except OSError as error:
            raise NoControlProcessError(f"no control process at {self._path}: {error.strerror or error}") from None
        except MessageError as error:
            raise NoControlProcessError(f"{self._path}: {error}") from None
        except ValueError:  # asyncio's word for a line past the limit
            raise NoControlProcessError(f"{self._path}: a reply of more than {REPLY_BYTES_MAX} bytes") from None
        finally:
            if not answered:  # a reply that comes late must not answer the next question
                self.close()
        if isinstance(answer, Failed):
            raise RefusedError(answer)
        if not isinstance(answer, reply):
            raise NoControlProcessError(f"the control process at {self._path} answered {type(answer).__name__}")
        return answer

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            _, writer = self._streams
            writer.close()
            self._streams = None


@asynccontextmanager
async def single_question(path: str) -> AsyncIterator[Feed]:
    """A connection of its own, beside the one that asks for figures."""
    feed = Feed(path)
    try:
        yield feed
    finally:
        feed.close()


def can_draw() -> bool:
    """Whether there is a terminal to draw on and keys to read."""
    # Textual draws on standard error, and reads standard input.
    return all(each is not None and each.isatty() for each in (sys.__stdin__, sys.__stdout__, sys.__stderr__))
