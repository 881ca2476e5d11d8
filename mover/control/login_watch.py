"""Failed logins: counted for each source and user, made slow, and after too many locked out for a while.

No I/O and no clock: time is an argument. A name that no user has is counted as any other, so that nobody learns by a
lockout which there are.
"""

import ipaddress
from typing import Final

import msgspec

FREE_FAILURES: Final = 3
"""So many failures are answered after the floor alone; each further one after twice the time of the one before."""
DELAY_MAX_S: Final = 8.0
ENTRIES_MAX: Final = 4096
USER_MAX: Final = 256  # bytes of a name that tell it from others here
_IPV6_PREFIX: Final = 64

Key = tuple[str, bytes]


class _Failures(msgspec.Struct):
    count: int
    last: float


class LoginWatch:
    """The failed logins of a node.

    Attributes:
        failures_max: so many in a row, and the pair of source and user is locked out.
        lockout_s: from the last failure on; also how long failures are remembered.
    """

    def __init__(self, failures_max: int, lockout_s: int) -> None:
        self.failures_max = failures_max
        self.lockout_s = lockout_s
        self._failures: dict[Key, _Failures] = {}

    def begin(self, key: Key, now: float) -> bool:
        """A login is tried, and counts as failed until ``succeeded``; whether it may be looked at.

        One that comes while the pair is locked out is not counted: the lockout has an end.
        """
        found = self._failures.pop(key, None)
        if found is None or now - found.last >= self.lockout_s:
            found = _Failures(0, now)
            self._make_room()
        self._failures[key] = found  # the newest
        if found.count >= self.failures_max:
            return False
        found.count += 1
        found.last = now
        return True

    def is_locked(self, key: Key, now: float) -> bool:
        """Whether logins of this source and user are refused at the moment."""
        found = self._failures.get(key)
        return found is not None and found.count >= self.failures_max and now - found.last < self.lockout_s

    def delay_s(self, key: Key, floor_s: float) -> float:
        """After how long from its beginning a failed login is answered, at the earliest."""
        found = self._failures.get(key)
        further = max(0, (found.count if found is not None else 0) - FREE_FAILURES)
        return min(floor_s * float(1 << min(further, 10)), max(floor_s, DELAY_MAX_S))

    def succeeded(self, key: Key) -> None:
        """The login stands: nothing is held against the pair any more."""
        self._failures.pop(key, None)

    def _make_room(self) -> None:
        """Forget the oldest pair, one that is not locked out if there is any."""
        if len(self._failures) < ENTRIES_MAX:
            return
        oldest = (key for key, each in self._failures.items() if each.count < self.failures_max)
        del self._failures[next(oldest, next(iter(self._failures)))]


def source_of(address: str) -> str:
    """What one client has all of: an address, of IPv6 its network."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)


def login_key(address: str, user: bytes) -> Key:
    """What failures are counted by: the source and the user."""
    return source_of(address), user[:USER_MAX]
