"""The address of an inference request."""

from typing import Final, NamedTuple

MODELS: Final = "/v2/models/"
INFER: Final = "/v2/models/{name}/infer"
INFER_VERSION: Final = "/v2/models/{name}/versions/{version}/infer"


class Address(NamedTuple):
    """Which bundle is asked."""

    path: str
    """The pattern of the route, by the name that Starlette has for it."""
    name: str
    version: str | None


def infer_address(path: str) -> Address | None:
    """None where something else is at `path`.

    >>> infer_address("/v2/models/pain/versions/1/infer")
    Address(path='/v2/models/{name}/versions/{version}/infer', name='pain', version='1')
    """
    if not path.startswith(MODELS) or not path.endswith("/infer"):
        return None
    match path.removeprefix(MODELS).split("/"):
        case [name, "infer"] if name:
            return Address(INFER, name, None)
        case [name, "versions", version, "infer"] if name and version:
            return Address(INFER_VERSION, name, version)
    return None
