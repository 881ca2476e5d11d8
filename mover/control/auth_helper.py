"""The auth helper's process, seen from control: started for one question about a user of the host."""

import subprocess
import sys
from typing import Final

import msgspec
import trio

PROCESSES_MAX: Final = 4
DEADLINE_S: Final = 20.0
"""Of one question: a directory or a PAM module that hangs is given up."""
_ANSWER_BYTES_MAX: Final = 64 * 1024
_limiter = trio.CapacityLimiter(PROCESSES_MAX)


class HelperError(Exception):
    """The helper has not answered; one line."""


class SystemUser(msgspec.Struct, frozen=True):
    """What the host says of a user.

    Attributes:
        known: NSS has it.
        fingerprint: of the shadow entry's hash and date of change; "" = not visible.
        locked: its password is locked, or the account expired.
        accepted: PAM took the password that was asked about.
        text: why not.
    """

    known: bool
    fingerprint: str
    locked: bool
    accepted: bool
    text: str


async def ask_host(user: str, *, password: str | None = None, service: str = "") -> SystemUser:
    """Ask NSS about a user, and PAM if there is a password.

    Raises:
        HelperError: no answer, or none in time.
    """
    question = {"user": user} if password is None else {"user": user, "password": password, "service": service}
    with trio.move_on_after(DEADLINE_S):
        async with _limiter:
            try:
                ended = await trio.run_process(
                    [sys.executable, "-I", "-m", "mover.auth"],
                    stdin=msgspec.json.encode(question),
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    start_new_session=True,  # Ctrl-C at a terminal is control's to judge
                )
                return msgspec.json.decode(ended.stdout[:_ANSWER_BYTES_MAX], type=SystemUser)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise HelperError(f"the auth helper did not answer ({type(error).__name__})") from None
    raise HelperError(f"the auth helper did not answer within {DEADLINE_S:g} s")
