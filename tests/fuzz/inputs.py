"""Input number n of a seed: the same one every time, whoever asks and in whatever order."""

from collections.abc import Sequence
from random import Random
from typing import Final

from .forms import damaged_form, damaged_head, media
from .seeds import Seed
from .streams import stream
from .tensors import Model, tensors
from .wire import KINDS, Input, Kind, request

WEIGHTS: Final[dict[Kind, float]] = {"media": 60, "form": 11, "head": 6, "tensors": 10, "stream": 10, "route": 3}
METHODS: Final = ("GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get")
PATHS: Final = (
    *(
        "/",
        "/docs",
        "/openapi.json",
        "/models",
        "/metrics",
        "/health/live",
        "/health/ready",
        "/v2",
        "/v2/",
        "/v2/models",
    ),
    *(
        "/v2/health/ready",
        "/v2/models/pain-test",
        "/predict/pain/",
        "/stream/pain",
        "/admin/bundles/reload",
        "//",
        "/%00",
    ),
    *(
        "/predict/%70ain",
        "/../etc/passwd",
        "/static/../../x",
        "/v2/models/%ff",
        "/models?x=" + "y" * 9_000,
        "*",
        "/\xe9",
    ),
)


class Source:
    """Draws inputs. `models` are those that the service describes under /v2."""

    def __init__(self, seed: int, seeds: Sequence[Seed], models: Sequence[Model]) -> None:
        self.seed, self.seeds, self.models = seed, seeds, models
        self.contents = [one.content for one in seeds]
        self.jpegs = [one.content for one in seeds if one.name == "jpeg"]

    def draw(self, number: int) -> Input:
        """Input `number`."""
        chance = Random(f"{self.seed}/{number}")
        kind = chance.choices(KINDS, [WEIGHTS[kind] for kind in KINDS])[0]
        match kind:
            case "media":
                return media(chance, self.seeds, self.contents)
            case "form":
                return damaged_form(chance, self.seeds, self.contents)
            case "head":
                return damaged_head(chance, self.seeds, self.contents)
            case "tensors":
                return tensors(chance, self.models)
            case "stream":
                return stream(chance, self.jpegs, self.contents)
            case "route":
                return route(chance)


def route(chance: Random) -> Input:
    """Any method at any address."""
    method, path = chance.choice(METHODS), chance.choice(PATHS)
    return Input("route", (request(method, path, {}),), "waits", intact=False)
