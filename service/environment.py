"""`PKDOT_*` variables: the only place of the service that reads them, and what people are told of them."""

import difflib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from service.settings import Settings, SettingsError

PREFIX: Final = "PKDOT_"
KUBERNETES_PREFIXES: Final = ("PKDOT_SERVICE_", "PKDOT_PORT_")
"""What Kubernetes sets for a service that is called pkdot; beside these, PKDOT_PORT=tcp://…"""
OTHER_VARIABLES: Final = frozenset({"PKDOT_FACE_WHEEL_DIR"})
"""Known, and without effect here: it is read by the installation of the face nets."""


class Reading(NamedTuple):
    """Settings, and what was odd about where they came from."""

    settings: Settings
    warnings: list[str]


def read_settings(environment: Mapping[str, str], **overrides: Any) -> Reading:
    """Settings from `PKDOT_*` variables; an override that is not None (a command-line option) goes first.

    An unknown variable is a warning that names the nearest known one. Raises SettingsError.
    """
    given, warnings = {}, []
    known = {variable(name): name for name in Settings.model_fields}
    for key, value in environment.items():
        if not key.startswith(PREFIX) or key in OTHER_VARIABLES or is_kubernetes(key, value):
            continue
        if key in known:
            given[known[key]] = value
        else:
            warnings.append(f"{key} is not a setting of pkdot and has no effect{suggestion(key, known)}")
    given |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Reading(Settings.model_validate(given), sorted(warnings))
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise SettingsError(why) from None
        name = variable(str(first["loc"][0]))
        if first["type"] == "missing":
            raise SettingsError(f"{name} is not set; name a folder of bundles with it, or with --bundles") from None
        raise SettingsError(f"{name}={first['input']!r} is not possible: {why}") from None


def variable(field: str) -> str:
    """The environment variable of a field.

    >>> variable("max_upload_bytes")
    'PKDOT_MAX_UPLOAD_BYTES'
    """
    return PREFIX + field.upper()


def is_kubernetes(key: str, value: str) -> bool:
    return key.startswith(KUBERNETES_PREFIXES) or (key == "PKDOT_PORT" and "://" in value)


def suggestion(key: str, known: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


class Described(NamedTuple):
    """A setting, for people."""

    variable: str
    default: str
    description: str


def described_settings() -> list[Described]:
    """Every setting, in the order in which they are told: for `pkdot serve --help` and docs/settings.md."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        default = ",".join(map(str, default)) if isinstance(default, tuple) else default
        default = "empty" if default in ("", None) else str(default)
        rows.append(Described(variable(name), default, str(field.description)))
    return rows


def settings_table() -> str:
    """One line a variable, with its default: the end of `pkdot serve --help`."""
    return "\n".join(f"  {one.variable} ({one.default}): {one.description}" for one in described_settings())
