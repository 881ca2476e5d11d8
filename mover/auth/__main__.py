"""The auth helper: ``python -I -m mover.auth``, one for each question; started by control.

One JSON object on standard input, {"user", "password", "service"}, and one on standard output, {"known",
"fingerprint", "locked", "accepted", "text"}. PAM and NSS block, a refusal of PAM takes seconds, and modules may hang:
control sets the deadline. It is not confined as workers are, because pam_unix asks a setuid program, which no_new_privs
would break. It says nothing of the password, nor of the hash that it reads.
"""

import json
import os
import pwd
import sys

from mover.auth import shadow

_QUESTION_BYTES_MAX = 64 * 1024


def _authenticate(user: str, password: str, service: str) -> tuple[bool, str]:
    """Whether PAM lets the user in, and what it says."""
    try:
        import pam  # noqa: PLC0415 - an optional extra
    except ImportError:
        return False, "PAM cannot be asked: the extra pam (python-pam) is not installed"
    asked = pam.PamAuthenticator()
    try:
        accepted = bool(asked.authenticate(user, password, service=service, resetcreds=False))
    except ValueError:  # NUL in a name or a password
        return False, "PAM takes no such name or password"
    return accepted, "" if accepted else str(asked.reason)


def answer(question: dict[str, str]) -> dict[str, object]:
    """What the host says of a user; asks PAM only where a password is given."""
    user = question["user"]
    try:
        pwd.getpwnam(user)
        known = True
    except (KeyError, ValueError):
        known = False
    found = shadow.read(user) if "\0" not in user else shadow.Shadow("", False)
    accepted, text = False, ""
    if "password" in question:
        accepted, text = _authenticate(user, question["password"], question["service"])
    return {
        "known": known, "fingerprint": found.fingerprint, "locked": found.locked, "accepted": accepted, "text": text,
    }  # fmt: skip


def main() -> None:
    """Answer the one question."""
    told = answer(json.loads(sys.stdin.buffer.read(_QUESTION_BYTES_MAX)))
    os.write(1, json.dumps(told).encode())


main()
