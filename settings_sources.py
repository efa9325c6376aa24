"""Where settings come from: the packaged file, the operator's, credentials, the environment. Each value is checked
where it stands.

Knows how settings are read, not which there are: that is in `settings.py`.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

PREFIX = "ORCHESTRATOR_"


class SettingsError(Exception):
    """One line that names the setting, what is wrong with it and where it came from. It quotes no secret."""

    def __init__(self, name: str, what: str, source: str) -> None:
        super().__init__(f"{name}: {what[0].lower()}{what[1:]} (from {source})")


class Effective(Struct, frozen=True):
    """One setting as it is in force: its value, masked where it holds a secret, and where it came from."""

    name: str
    value: Any
    source: str


def packaged() -> dict[str, Any]:
    """The defaults, by name."""
    return dict(_leaves(tomllib.loads(resources.files("orchestrator").joinpath("settings.toml").read_text("utf-8"))))


def read(file: Path) -> dict[str, Any]:
    """What a file sets, by name. Raises SettingsError."""
    try:
        return dict(_leaves(tomllib.loads(file.read_text("utf-8"))))
    except OSError as error:
        raise SettingsError("settings", f"cannot be read: {error.strerror}", str(file)) from None
    except ValueError as error:
        raise SettingsError("settings", f"are not valid TOML: {error}", str(file)) from None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def from_environment(
    environ: Mapping[str, str], known: Iterable[str], aliases: Mapping[str, str], foreign: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Setting, text and variable, those that win last: long names before short ones, each before the file for it.

    A file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), Credentials) is the file for the variable that it is named for.
    Raises SettingsError for a variable of ours that names no setting; those that are `foreign` are none of ours.
    """
    environ = {**_credentials(environ), **environ}
    names = {**{variable_of(name): name for name in known}, **aliases}
    plain = {v: v if v in names else v.removesuffix("_FILE") for v in environ if v not in foreign}
    ours = [v for v, name in plain.items() if v.startswith(PREFIX) or name in aliases]
    for variable in sorted(ours, key=lambda v: (plain[v] in aliases, plain[v] != v)):
        if plain[variable] not in names:
            raise SettingsError(variable, "there is no such setting", "the environment")
        text = environ[variable]
        yield names[plain[variable]], text if plain[variable] == variable else _content(variable, text), variable


def _credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """For each file in the folder of credentials its `_FILE` variable: only those that are ours are ever read."""
    folder = Path(environ.get("CREDENTIALS_DIRECTORY", ""))
    if not folder.is_absolute():
        return {}
    try:
        return {f"{file.name}_FILE": str(file) for file in folder.iterdir() if file.is_file()}
    except OSError as error:
        raise SettingsError("CREDENTIALS_DIRECTORY", f"cannot be read: {error.strerror}", "the environment") from None


def variable_of(name: str) -> str:
    """The long name of a setting's variable; those of the task types leave out `types`."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", name.replace("tasks.types.", "tasks.").upper())


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, ValueError):
        raise SettingsError(variable, "the file that it names cannot be read", "the environment") from None


def checked(root: type[Struct], name: str, value: Any, source: str, *, as_text: bool = False) -> Effective:
    """`value` as the type of the setting has it. Text is read as that type needs; commas or line ends part a list."""
    try:
        kind = _kind(root, name)
        if as_text and get_origin(_bare(kind)) is tuple:
            value = [part.strip() for part in re.split(r"[,\n]", value) if part.strip()]
        return Effective(name, msgspec.convert(value, kind, strict=not as_text, dec_hook=read_text), source)
    except KeyError:
        raise SettingsError(name, "there is no such setting", source) from None
    except msgspec.ValidationError as error:
        raise SettingsError(name, str(error), source) from None


def read_text(kind: type, value: Any) -> Any:
    """A value of a type of ours that is made from text and checks it. Raises ValueError or TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return kind(value)


def assembled(root: type[Struct], found: Mapping[str, Effective]) -> dict[str, Any]:
    """Checked settings as a tree. Raises SettingsError where a table that one of them is in lacks another."""
    tree: dict[str, Any] = {}
    tables = {name.rpartition(".")[0] for name in found}
    for name, setting in found.items():
        table, _, last = name.rpartition(".")
        for field in _kind(root, table).__struct_fields__:
            if f"{table}.{field}" not in found and not any(it.startswith(f"{table}.{field}.") for it in tables):
                raise SettingsError(f"{table}.{field}", "is missing", setting.source)
        branch = tree
        for part in table.split("."):
            branch = branch.setdefault(part, {})
        branch[last] = setting.value
    return tree


def _kind(root: type[Struct], name: str) -> Any:
    """The type of a setting or table. Raises KeyError if there is none, ValidationError if none may be called so."""
    kind: Any = root
    for part in name.split("."):
        bare = _bare(kind)
        if get_origin(bare) is dict:
            key, kind = get_args(bare)
            msgspec.convert(part, key)
        elif isinstance(bare, type) and issubclass(bare, Struct):
            kind = get_type_hints(bare, include_extras=True)[part]
        else:
            raise KeyError(name)
    return kind


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def masked(url: str) -> str:
    """A URL with nothing in it that could be a password: where it is odd, only its scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator or "?" in rest or "#" in rest:
        return f"{scheme}://***" if separator else "***"
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{place}"
