"""What is kept of passwords, and the key that seals those which are needed in clear."""

import os
import stat
from pathlib import Path

import pytest

from mover.control.passwords import hash_login, new_ndmp_password, verify_login, wrong_with
from mover.control.seal import CREDENTIAL, KEY_BYTES, KEY_FILE, Seal, SealError


def test_an_ndmp_password_is_sixteen_letters_and_digits_and_never_the_same() -> None:
    made = {new_ndmp_password() for _ in range(50)}
    assert len(made) == 50
    assert all(len(each) == 16 and each.isascii() and each.isalnum() for each in made)


def test_a_login_password_is_known_by_its_hash() -> None:
    kept = hash_login(b"correct horse")
    assert "correct" not in kept
    assert kept != hash_login(b"correct horse")  # salted
    assert verify_login(b"correct horse", kept)
    assert not verify_login(b"correct hors", kept)
    assert not verify_login(b"", kept)
    assert not verify_login(b"", "")
    assert not verify_login(b"x" * 5000, kept)


@pytest.mark.parametrize(("password", "taken"), [("short", False), ("x" * 8, True), ("é" * 600, False)])
def test_what_a_login_password_must_be(password: str, taken: bool) -> None:
    assert (wrong_with(password) == "") == taken


def test_what_is_sealed_opens_for_what_it_is_bound_to_only(tmp_path: Path) -> None:
    seal = Seal(str(tmp_path))
    sealed = seal.seal(b"jWZiNt57huPOoD8d", b"user1")
    assert b"jWZi" not in sealed
    assert seal.open(sealed, b"user1") == b"jWZiNt57huPOoD8d"
    assert seal.open(sealed, b"user2") is None
    assert seal.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"user1") is None
    assert seal.open(b"", b"user1") is None
    assert Seal(str(tmp_path)).open(sealed, b"user1") == b"jWZiNt57huPOoD8d"  # behind a restart


def test_the_key_is_for_the_service_alone(tmp_path: Path) -> None:
    sealed = Seal(str(tmp_path)).seal(b"x", b"")
    key = tmp_path / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == [KEY_FILE]
    key.chmod(0o640)
    with pytest.raises(SealError, match="others may use it"):
        Seal(str(tmp_path)).open(sealed, b"")
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(SealError, match="expected 32 bytes"):
        Seal(str(tmp_path)).open(sealed, b"")
    key.unlink()
    with pytest.raises(SealError, match="No such file"):
        Seal(str(tmp_path)).open(sealed, b"")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealError):
        Seal(str(tmp_path)).seal(b"x", b"")


def test_a_start_that_was_cut_off_leaves_no_half_key(tmp_path: Path) -> None:
    (tmp_path / f"{KEY_FILE}.new").write_bytes(b"half")
    seal = Seal(str(tmp_path))
    assert seal.open(seal.seal(b"x", b""), b"") == b"x"
    assert len((tmp_path / KEY_FILE).read_bytes()) == KEY_BYTES


def test_a_credential_of_systemd_takes_the_files_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, state = tmp_path / "given", tmp_path / "state"
    given.mkdir()
    state.mkdir()
    (given / CREDENTIAL).write_bytes(bytes(range(KEY_BYTES)))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    sealed = Seal(str(state)).seal(b"x", b"")
    assert list(state.iterdir()) == []
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (state / KEY_FILE).write_bytes(bytes(KEY_BYTES))
    (state / KEY_FILE).chmod(0o600)
    assert Seal(str(state)).open(sealed, b"") is None
