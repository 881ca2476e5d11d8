"""`mover user`, `mover role` and `mover generate-password` against a fake control process."""

import json
from pathlib import Path

import pytest

from mover.admin.accounts import (
    GeneratePassword,
    PasswordReply,
    RoleCreate,
    RoleDelete,
    RoleShow,
    RoleShowReply,
    RoleStatus,
    UserCreate,
    UserDelete,
    UserModify,
    UserShow,
    UserShowReply,
    UserStatus,
)
from mover.admin.messages import Done, Reply, Request
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

USERS = [
    UserStatus(
        user="ndmp", role="backup", vservers=[], source="configuration", authentication_method="password",
        ndmp_password="configured",
    ),
    UserStatus(
        user="ops", role="vsadmin", vservers=["vs1", "vs2"], source="local", authentication_method="none",
        ndmp_password="stale", generated=1, volumes=["vs1/home"], devices=[],
    ),
]  # fmt: skip
ROLES = [RoleStatus(role="admin", access="all", built_in=True), RoleStatus(role="r", access="none", built_in=False)]


def answer(request: Request) -> Reply:
    match request:
        case UserShow():
            return UserShowReply(USERS)
        case RoleShow():
            return RoleShowReply(ROLES)
        case GeneratePassword():
            return PasswordReply(request.vserver, request.user, "jWZiNt57huPOoD8d")
        case _:
            return Done("it is done", ["x"])


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text("correct horse\n")
    return str(path)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (
            ["user", "create", "--user", "u", "--role", "vsadmin", "--vserver", "a,b", "--password-file", "SECRET"],
            UserCreate("u", "vsadmin", vservers=["a", "b"], password="correct horse"),
        ),
        (
            ["user", "create", "--user", "u", "--role", "backup", "--source", "system"],
            UserCreate("u", "backup", "system"),
        ),
        (
            ["user", "modify", "--user", "u", "--vserver", "", "--authentication-method", "none"],
            UserModify("u", vservers=[], authentication_method="none"),
        ),
        (
            [
                "user",
                "create",
                "--user",
                "u",
                "--role",
                "backup",
                "--source",
                "system",
                "--volumes",
                "srv,vs1/home",
                "--devices",
                "",
            ],
            UserCreate("u", "backup", "system", volumes=["srv", "vs1/home"], devices=[]),
        ),
        (
            ["user", "modify", "--user", "u", "--volumes", "*", "--devices", "vtl0/drive0"],
            UserModify("u", volumes=["*"], devices=["vtl0/drive0"]),
        ),
        (["user", "modify", "--user", "u", "--password-file", "SECRET"], UserModify("u", password="correct horse")),
        (["user", "delete", "--user", "u"], UserDelete("u")),
        (["role", "create", "--role", "r", "--access", "readonly"], RoleCreate("r", "readonly")),
        (["role", "delete", "--role", "r"], RoleDelete("r")),
    ],
)
def test_what_is_asked_for(mover: Run, socket_path: str, secret: str, words: list[str], request_: Request) -> None:
    typed = [secret if word == "SECRET" else word for word in words]
    with FakeControl(socket_path, answer) as control:
        plain, as_json = mover(*typed), mover(*typed, "--json")
    assert (plain.exit_code, plain.stdout, plain.stderr) == (0, "it is done\n", "")
    assert json.loads(as_json.stdout) == {"text": "it is done", "names": ["x"]}
    assert control.requests == [request_, request_]


def test_the_password_is_printed_as_ontap_does(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        plain = mover("generate-password", "--vserver", "vs1", "--user", "user1")
        node = mover("generate-password", "--user", "user1")
        as_json = mover("generate-password", "--user", "user1", "--json")
    assert plain.stdout == "Vserver: vs1\nUser: user1\nPassword: jWZiNt57huPOoD8d\n"
    assert node.stdout == "User: user1\nPassword: jWZiNt57huPOoD8d\n"
    assert json.loads(as_json.stdout) == {"vserver": "", "user": "user1", "password": "jWZiNt57huPOoD8d"}


def test_the_lists(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        users, users_json = mover("user", "show"), mover("user", "show", "--json")
        roles, roles_json = mover("role", "show"), mover("role", "show", "--role", "r", "--json")
    assert users.stdout.splitlines() == [
        "user  role     vservers  volumes   devices  source         authentication-method  ndmp-password",
        "ndmp  backup   -         *         *        configuration  password               configured",
        "ops   vsadmin  vs1,vs2   vs1/home  none     local          none                   stale",
    ]
    assert [each["generated"] for each in json.loads(users_json.stdout)["users"]] == [None, 1]
    assert roles.stdout.splitlines() == [
        "role   access  built-in", "admin  all         true", "r      none       false",
    ]  # fmt: skip
    assert json.loads(roles_json.stdout)["roles"][1] == {"role": "r", "access": "none", "built-in": False}
    assert control.requests[-1] == RoleShow("r")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create", "--user", "u", "--role", "r"], "--password-file is needed where nobody can be asked"),
        (
            ["create", "--user", "u", "--role", "r", "--source", "system", "--password-file", "x"],
            "the host has the login passwords of its own",
        ),
        (["modify", "--user", "u"], "nothing to change"),
        (["create", "--user", "u"], "Missing option '--role'"),
        (["create", "--role", "r"], "Missing option '--user'"),
    ],
)
def test_wrong_usage(mover: Run, words: list[str], text: str) -> None:
    result = mover("user", *words)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_password_file_that_others_can_read_is_refused(mover: Run, secret: str) -> None:
    Path(secret).chmod(0o644)
    result = mover("user", "create", "--user", "u", "--role", "r", "--password-file", secret)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "refused, because others can read it" in result.stderr


def test_messages_do_not_show_their_passwords() -> None:
    for message in (
        UserCreate("u", "r", password="hidden"), UserModify("u", password="hidden"), PasswordReply("", "u", "hidden"),
    ):  # fmt: skip
        assert "hidden" not in repr(message)
