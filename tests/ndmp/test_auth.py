"""Login data: the deployed digest layout, cut passwords, challenges."""

import hashlib

import pytest

from mover.ndmp.auth import CHALLENGE_SIZE, md5_digest, new_challenge, verify_md5, verify_text

CHALLENGE = bytes(range(64))


@pytest.mark.parametrize("length", [0, 1, 4, 16, 31, 32])
def test_the_layout_of_the_digest(length: int) -> None:
    password = bytes(range(0x40, 0x40 + length))
    gap = 64 - 2 * length
    message = password + bytes(gap) + CHALLENGE + password
    assert len(message) == 128
    assert md5_digest(CHALLENGE, password) == hashlib.md5(message).digest()


def test_a_long_password_is_cut_to_32_bytes() -> None:
    assert md5_digest(CHALLENGE, b"x" * 32) == md5_digest(CHALLENGE, b"x" * 33)
    assert md5_digest(CHALLENGE, b"x" * 31) != md5_digest(CHALLENGE, b"x" * 32)


def test_verify_md5() -> None:
    digest = md5_digest(CHALLENGE, b"secret")
    assert verify_md5(digest, CHALLENGE, b"secret")
    assert not verify_md5(digest, CHALLENGE, b"Secret")
    assert not verify_md5(digest, CHALLENGE[::-1], b"secret")
    assert not verify_md5(b"", CHALLENGE, b"secret")


def test_an_empty_password_never_logs_in() -> None:
    assert not verify_md5(md5_digest(CHALLENGE, b""), CHALLENGE, b"")


def test_verify_text() -> None:
    assert verify_text(b"secret", b"secret")
    assert not verify_text(b"secret ", b"secret")
    assert not verify_text(b"", b"secret")


def test_challenges_differ() -> None:
    first, second = new_challenge(), new_challenge()
    assert len(first) == len(second) == CHALLENGE_SIZE
    assert first != second
