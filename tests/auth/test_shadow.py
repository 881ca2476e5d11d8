"""What a shadow entry means for an NDMP password that is bound to it."""

import pytest

from mover.auth.shadow import judge, read

HASH = b"$y$j9T$abc$def"
TODAY = 20_000


def test_a_change_of_hash_or_date_changes_the_fingerprint() -> None:
    first = judge(HASH, 19_000, -1, TODAY)
    assert len(first.fingerprint) == 64
    assert HASH.decode() not in first.fingerprint
    assert judge(HASH, 19_000, -1, TODAY + 1) == first
    assert judge(HASH + b"x", 19_000, -1, TODAY).fingerprint != first.fingerprint  # by ldappasswd: same date
    assert judge(HASH, 19_001, -1, TODAY).fingerprint != first.fingerprint
    assert judge(b"0123456789abc", 1, -1, TODAY).fingerprint  # the old crypt(3)


@pytest.mark.parametrize("kept", [b"", b"*", b"x"])
def test_a_hash_that_is_not_shown_gives_no_fingerprint_and_its_date_alone_none_either(kept: bytes) -> None:
    assert judge(kept, 19_000, -1, TODAY) == ("", False)


@pytest.mark.parametrize(("kept", "expires"), [(b"!" + HASH, -1), (b"!", -1), (HASH, TODAY), (HASH, 0)])
def test_a_locked_password_and_an_expired_account(kept: bytes, expires: int) -> None:
    assert judge(kept, 19_000, expires, TODAY) == ("", True)


def test_a_user_who_is_not_there_has_none() -> None:
    assert read("no-such-user-of-mover") == ("", False)
