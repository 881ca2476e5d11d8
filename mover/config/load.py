"""Reading the configuration file: TOML to structs, and one line of words for whatever is wrong with it."""

import difflib
import json
import os
import re
import stat
import tomllib
from typing import Any, Final, NoReturn, TypeVar  # Any: TOML values before they are checked

import msgspec
from msgspec import inspect

from mover.config import checks, model, values
from mover.config.errors import ConfigError

FILE_BYTES_MAX: Final = 1 << 20
PASSWORD_BYTES_MAX: Final = 4096
TOKEN_CHARACTERS_MIN: Final = 16  # it may be tried from any host
SHOWN_MAX: Final = 100  # characters of a wrong value in an error

Device = TypeVar("Device", bound=model.RealDevice)

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SOCKET = re.compile(r"""^[ \t]*admin_socket[ \t]*=[ \t]*(?:"([^"\\\n]*)"|'([^'\n]*)')""", re.MULTILINE)
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


def load_config(path: str) -> model.Config:
    """Read, check and complete the configuration, passwords included.

    Raises:
        ConfigError: one line naming the file, the key and, unless it may be a secret, the value.
    """
    config = parse_config(path)
    checks.check_consistency(path, config)
    checks.check_supported(path, config)
    return msgspec.structs.replace(
        config,
        node=_with_metrics_token(path, config.node),
        user=[_with_password(path, index, user) for index, user in enumerate(config.user)],
        drive=[_with_chap_secret(path, f"drive[{index}]", drive) for index, drive in enumerate(config.drive)],
        changer=[_with_chap_secret(path, f"changer[{index}]", each) for index, each in enumerate(config.changer)],
    )


def parse_config(path: str) -> model.Config:
    """As load_config, without the checks between keys and without reading password files."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: longer than {FILE_BYTES_MAX} bytes")
    try:
        raw = tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if "given" in raw:  # what follows from the file, and no key of it
        raise ConfigError(f"{path}: given: unknown key")
    kind = inspect.type_info(model.Config)
    parsed = _parse(path, kind, raw, "")
    try:
        return msgspec.structs.replace(msgspec.convert(parsed, model.Config), given=_given(raw))
    except msgspec.ValidationError as error:
        _explain(path, kind, raw, str(error))


def socket_in(path: str) -> str | None:
    """The admin socket of a configuration that cannot be used: named in it, or the default; None = it is not clear."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return None
    try:
        node = tomllib.loads(text).get("node", {})
        named = [node["admin_socket"]] if "admin_socket" in node else []
    except (tomllib.TOMLDecodeError, RecursionError, TypeError):
        named = ["".join(each) for each in _SOCKET.findall(text)]
        if len(named) != text.count("admin_socket"):
            return None
    match named:
        case []:
            return model.Node().admin_socket
        case [str(one)] if one:
            return one
    return None


def _given(raw: dict[str, Any]) -> frozenset[str]:
    """Every key of a table, and of each of several tables of a name."""
    found = set()
    for table, content in raw.items():
        rows = (
            [(table, content)]
            if isinstance(content, dict)
            else [(f"{table}[{index}]", each) for index, each in enumerate(content)]
        )
        found |= {f"{name}.{key}" for name, row in rows for key in row}
    return frozenset(found)


def _parse(path: str, kind: inspect.Type, raw: Any, key: str) -> Any:
    """Apply the parsers of the annotations; everything else stays for msgspec to judge."""
    if isinstance(kind, inspect.UnionType):  # ``X | None``, and TOML has no null
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, inspect.Metadata):
        if kind.extra is None or "parse" not in kind.extra:
            return raw
        try:
            return kind.extra["parse"](raw)
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: expected {error}, got {_shown(kind, raw)}") from None
    if isinstance(kind, inspect.StructType) and isinstance(raw, dict):
        fields = {each.encode_name: each.type for each in kind.fields}
        return {
            name: _parse(path, fields[name], value, f"{key}.{name}" if key else name) if name in fields else value
            for name, value in raw.items()
        }
    if isinstance(kind, inspect.ListType) and isinstance(raw, list):
        return [_parse(path, kind.item_type, value, f"{key}[{index}]") for index, value in enumerate(raw)]
    return raw


def _explain(path: str, kind: inspect.Type, raw: Any, message: str) -> NoReturn:
    """Turn msgspec's message, which names the place but not the value, into ours."""
    at = _AT.search(message)
    key = at["path"] if at else ""
    for name, index in _STEP.findall(key):
        if index:
            assert isinstance(kind, inspect.ListType)
            kind, raw = kind.item_type, raw[int(index)]
        else:
            assert isinstance(kind, inspect.StructType)
            kind = next(each.type for each in kind.fields if each.encode_name == name)
            raw = raw[name]
    prefix = f"{key}." if key else ""
    words = message[: at.start()] if at else message
    if unknown := _UNKNOWN.fullmatch(words):
        assert isinstance(kind, inspect.StructType)
        near = difflib.get_close_matches(unknown["key"], [each.encode_name for each in kind.fields], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        name = unknown["key"] if _BARE.fullmatch(unknown["key"]) else json.dumps(unknown["key"])
        raise ConfigError(f"{path}: {prefix}{name}: unknown key{hint}")
    if missing := _MISSING.fullmatch(words):
        raise ConfigError(f"{path}: {prefix}{missing['key']}: a value is needed")
    raise ConfigError(f"{path}: {key}: expected {_expected(kind)}, got {_shown(kind, raw)}")


def _expected(kind: inspect.Type) -> str:
    """What a type accepts, in words."""
    match kind:
        case inspect.UnionType(types=types):  # ``X | None``
            return _expected(next(each for each in types if not isinstance(each, inspect.NoneType)))
        case inspect.IntType(ge=low, le=high):
            if low is not None and high is not None:
                return f"{low}..{high}"
            return "an integer" if low is None else f"an integer of at least {low}"
        case inspect.LiteralType(values=choices):
            return "one of " + ", ".join(str(choice) for choice in choices)
        case inspect.ListType(item_type=inspect.StructType()):
            return "an array of tables (written with [[ ]])"
        case inspect.ListType():
            return "an array"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType(min_length=low):
            return "a non-empty string" if low else "a string"
        case _:
            return "a table"


def _shown(kind: inspect.Type, raw: Any) -> str:
    """A value as it stands in the file, cut to one short line; secrets and tables are not shown."""
    if isinstance(kind, inspect.Metadata) and kind.extra and kind.extra.get("parse") is values.parse_secret:
        return "a value that is not shown"
    if isinstance(raw, dict) or (isinstance(raw, list) and any(isinstance(each, dict) for each in raw)):
        return "a table" if isinstance(raw, dict) else "an array of tables"
    text = json.dumps(raw, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."


def _with_metrics_token(path: str, node: model.Node) -> model.Node:
    """The node with its token, if it has one. It is in one key then too, as checks.py wants it."""
    if not node.metrics_token and not node.metrics_token_file:
        return node
    token = _secret(path, "node.metrics_token", node.metrics_token, node.metrics_token_file, "the token")
    if len(token.reveal()) < TOKEN_CHARACTERS_MIN:
        key = "metrics_token_file" if node.metrics_token_file else "metrics_token"
        raise ConfigError(
            f"{path}: node.{key}: expected a token of at least {TOKEN_CHARACTERS_MIN} characters, "
            "got a shorter one that is not shown"
        )
    return msgspec.structs.replace(node, metrics_token=token, metrics_token_file="")


def _with_password(path: str, index: int, user: model.User) -> model.User:
    """The user with its secret, read from where it stands. It is in one key then too, as checks.py wants it."""
    secret = _secret(path, f"user[{index}].password", user.password, user.password_file, "the password")
    return msgspec.structs.replace(user, password=secret, password_file="")


def _with_chap_secret(path: str, table: str, device: Device) -> Device:
    """The device with its secret, if it has one. It is in one key then too, as checks.py wants it."""
    if not device.chap_user:
        return device
    key = f"{table}.chap_secret"
    secret = _secret(path, key, device.chap_secret, device.chap_secret_file, "the secret")
    return msgspec.structs.replace(device, chap_secret=secret, chap_secret_file="")


def _secret(path: str, key: str, given: values.Secret, secret_file: str, what: str) -> values.Secret:
    """A secret of the configuration, from where it stands: in the file itself, or in one of its own."""
    if given:
        if os.stat(path).st_mode & stat.S_IROTH:
            raise ConfigError(f"{path}: {key}: refused, because {path} is readable by others (chmod o-r)")
        return given
    try:
        with open(secret_file, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(PASSWORD_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {key}_file: {secret_file}: {error.strerror}") from None
    if mode & stat.S_IROTH:
        raise ConfigError(f"{path}: {key}_file: refused, because {secret_file} is readable by others (chmod o-r)")
    try:
        line = content.decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        line = ""
    if not line or len(content) > PASSWORD_BYTES_MAX:
        raise ConfigError(f"{path}: {key}_file: {secret_file}: expected {what} as its first line, in UTF-8")
    return values.Secret(line)
