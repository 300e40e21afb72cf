"""Where shrinking helps: forms, requests of /v2 and hellos as hypothesis draws them, against a running service."""

import itertools
import json
import time
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .campaign import Campaign
from .forms import FILE_NAMES, GOOD_TEXTS, ODD_NAMES, ROUTES
from .inputs import Source
from .seeds import Seed
from .streams import HELLO, hello_stream
from .tensors import LENGTH, Model
from .wire import FORM_TYPE, Field, Input, form, request

EXAMPLES: Final = 50
SMALL_BYTES: Final = 8_000
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NUMBER_TEXTS: Final = st.floats().map(repr) | st.integers().map(str) | st.decimals().map(str)


def forms(seeds: Sequence[Seed]) -> st.SearchStrategy[Input]:
    """Forms of any fields, of which some are those that the service knows."""
    contents = st.sampled_from([one.content for one in seeds if len(one.content) < SMALL_BYTES]) | st.binary(
        max_size=64
    )
    files = st.builds(Field, st.sampled_from(("video", "frames", "audio")), contents, st.sampled_from(FILE_NAMES))
    names = st.sampled_from([name for name, _ in GOOD_TEXTS] + ["fps", "bundle"]) | st.sampled_from(ODD_NAMES)
    values = (NUMBER_TEXTS | st.text(max_size=40)).map(lambda text: text.encode("utf-8", "surrogatepass"))
    known = st.sampled_from(GOOD_TEXTS).flatmap(
        lambda row: st.builds(Field, st.just(row[0]), st.sampled_from(row[1]).map(str.encode))
    )
    fields = st.lists(files | known | st.builds(Field, names, values), max_size=6)
    headers = st.fixed_dictionaries({"Content-Type": st.just(FORM_TYPE)}, optional={"X-Request-Timeout": NUMBER_TEXTS})
    return st.builds(
        lambda path, given, sent: Input("form", (request("POST", path, given, form(sent)),)),
        st.sampled_from(tuple(ROUTES.values())),
        headers,
        fields,
    )


def infer_requests(models: Sequence[Model]) -> st.SearchStrategy[Input]:
    """JSON for a model: its own tensors with shapes, datatypes and data that fit or not; or anything."""

    def asked(model: Model) -> st.SearchStrategy[tuple[Model, Any]]:
        names = st.sampled_from([tensor["name"] for tensor in model["inputs"]]) | st.text(max_size=5)
        shapes = st.sampled_from([tensor["shape"] for tensor in model["inputs"]]) | st.lists(
            st.integers(-1, 5), max_size=5
        )
        sizes = st.builds(lambda size: {"binary_data_size": size}, st.integers(-1, 1 << 40))
        tensor = st.fixed_dictionaries(
            {"name": names, "datatype": st.sampled_from(("FP32", "UINT8", "INT64", "BYTES", "")), "shape": shapes},
            optional={
                "data": st.lists(st.floats() | st.integers(0, 255), max_size=5) | JSON,
                "parameters": sizes | JSON,
            },
        )
        sound = st.fixed_dictionaries(
            {"inputs": st.lists(tensor, max_size=3)}, optional={"outputs": JSON, "id": JSON, "parameters": JSON}
        )
        return st.tuples(st.just(model), sound | JSON)

    def build(drawn: tuple[Model, Any], rest: bytes, off: int) -> Input:
        model, content = drawn
        text = json.dumps(content).encode("utf-8", "surrogatepass")
        headers = {LENGTH: str(len(text) + off)} if rest or off else {}
        return Input("tensors", (request("POST", f"/v2/models/{model['name']}/infer", headers, text + rest),))

    return st.builds(
        build, st.sampled_from(models).flatmap(asked), st.binary(max_size=40), st.sampled_from((0, 0, 0, 1, -1))
    )


def hellos() -> st.SearchStrategy[Input]:
    """Hellos whose fields are right, or anything."""
    sound = st.fixed_dictionaries(
        {"type": st.just("hello")},
        optional={
            "token": st.none() | st.text(max_size=10),
            "video": st.none() | st.fixed_dictionaries({"fps": st.floats(0, 300) | st.integers()}),
            "audio": st.none()
            | st.fixed_dictionaries({"sample_rate": st.integers(0, 200_000), "channels": st.integers(-1, 20)}),
            "hop_s": st.none() | st.floats(allow_nan=False),
            "face": st.sampled_from(("largest", "all", "")),
        },
    )
    odd = st.dictionaries(st.sampled_from(tuple(HELLO)), JSON, max_size=7)
    return st.builds(hello_stream, sound | odd | JSON)


def all_of(source: Source) -> st.SearchStrategy[Input]:
    return forms(source.seeds) | infer_requests(source.models) | hellos()


def search(campaign: Campaign, source: Source, start: int, seconds: float) -> None:
    """Round after round with another seed; what fails is kept in its smallest form."""
    began_s = time.monotonic()
    for number in itertools.count(start * 1_000):
        if time.monotonic() >= began_s + seconds:
            break
        one_round(campaign, source, number, EXAMPLES)
    campaign.busy_s += time.monotonic() - began_s


def one_round(campaign: Campaign, source: Source, number: int, examples: int) -> None:
    """So many examples by this seed. A failure is not raised: the campaign has it, and its smallest form."""
    name = f"structured-{number}"

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(all_of(source))
    def holds(example: Input) -> None:
        assert not campaign.send(example, name)

    try:
        holds()
    except AssertionError:
        return
