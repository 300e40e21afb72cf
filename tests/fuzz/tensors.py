"""Requests of the Open Inference Protocol: their JSON, the bytes behind it, and the header that tells them apart."""

import json
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

import numpy as np

from .mutations import ON_BYTES
from .trees import odd_tree
from .wire import Input, request

SIZES: Final = {"UINT8": 1, "FP32": 4}
LENGTH: Final = "Inference-Header-Content-Length"
ODD_LENGTHS: Final = ("", "-1", "0", "1", "99999999", "99999999999999999999999", "x", "1.5", "٣")
ODD_PATHS: Final = ("/v2/models/%00/infer", "/v2/models/x/infer", "/v2/models//infer", "/v2/models/{}/versions/9/infer")
ODD_FLOATS: Final = (math.nan, math.inf, -math.inf, 3.4e38, 1e-45, -0.0)

Model = Mapping[str, Any]
"""As GET /v2/models/NAME describes it."""


def tensors(chance: Random, models: Sequence[Model]) -> Input:
    """A request that is sound in most of its parts."""
    model = chance.choice(models)
    asked, raw = sound_request(chance, model)
    if chance.random() < 0.5:
        asked = odd_tree(chance, asked)
    text = json.dumps(asked).encode("utf-8", "surrogatepass")
    text = chance.choice(ON_BYTES)(chance, text) if chance.random() < 0.15 else text
    raw = chance.choice(ON_BYTES)(chance, raw) if raw and chance.random() < 0.2 else raw
    headers = {"Content-Type": "application/octet-stream"}
    if raw or chance.random() < 0.3:
        headers[LENGTH] = str(len(text)) if chance.random() < 0.9 else chance.choice(ODD_LENGTHS)
    path = f"/v2/models/{model['name']}/infer"
    if chance.random() < 0.03:
        path = chance.choice(ODD_PATHS).replace("{}", model["name"])
    sent = request("POST", path, headers, text + raw)
    return Input("tensors", (sent,), "leaves" if chance.random() < 0.02 else "waits")


def sound_request(chance: Random, model: Model) -> tuple[dict[str, Any], bytes]:
    """JSON and bytes of a request that the model can answer, but for a strange number here and there."""
    sets = str(model["parameters"]["input_sets"]).split(";")
    names = chance.choice(sets).split(",")
    batch = chance.choice((1, 1, 2, 3))
    inputs, raw = [], b""
    for tensor in model["inputs"]:
        if tensor["name"] not in names:
            continue
        shape = [batch, *tensor["shape"][1:]]
        content = numbers(chance, tensor["datatype"], math.prod(shape))
        entry = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
        if len(content) > 100_000 or chance.random() < 0.5:
            entry["parameters"] = {"binary_data_size": len(content)}
            raw += content
        else:
            entry["data"] = np.frombuffer(content, {"UINT8": "<u1", "FP32": "<f4"}[tensor["datatype"]]).tolist()
        inputs.append(entry)
    asked: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": chance.random() < 0.5}}
    if chance.random() < 0.3:
        chosen = chance.choice(model["outputs"])["name"]
        asked["outputs"] = [{"name": chosen, "parameters": {"binary_data": chance.random() < 0.5}}]
    if chance.random() < 0.2:
        asked["id"] = "a"
    if chance.random() < 0.1:
        asked["parameters"]["timeout"] = chance.choice((0, 1, 1000, 10**7, -1))
    return asked, raw


def numbers(chance: Random, datatype: str, count: int) -> bytes:
    """So many numbers, little-endian."""
    if datatype == "UINT8":
        return chance.randbytes(count)
    values = np.random.default_rng(chance.getrandbits(32)).normal(-5, 3, count).astype("<f4")
    if chance.random() < 0.2:
        values[chance.randrange(count)] = chance.choice(ODD_FLOATS)
    return values.tobytes()
