"""What the service says of itself and of its bundles in the protocol's words."""

from typing import Any, Final

from models.manifest import output_names as calibrated_names
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.oip.datatypes import OF_INPUTS
from service.oip.outputs import output_specs
from service.predict.answers import bundle_warnings
from service.version import VERSION

SERVER: Final[dict[str, Any]] = {"name": "pkdot", "version": VERSION, "extensions": ["binary_tensor_data"]}
VARIABLE: Final = -1
"""The protocol's sign for an axis of any size: here always the batch."""


def model_metadata(loaded: LoadedBundle, shelf: BundleShelf) -> dict[str, Any]:
    """Every tensor that some graph of the bundle takes, and every one that some graph can answer with.

    The versions are all that answer under its name: its own, and where there is a canary, both.
    """
    manifest = loaded.bundle.manifest
    fed = dict.fromkeys(modality for graph in manifest.graphs for modality in graph.available)
    inputs = [
        {
            "name": modality,
            "datatype": OF_INPUTS[manifest.inputs.dtype(modality)].name,
            "shape": [VARIABLE, *manifest.inputs.shape(modality)],
        }
        for modality in fed
    ]
    outputs = [
        {
            "name": spec.name,
            "datatype": spec.datatype.name,
            "shape": [VARIABLE] if spec.width is None else [VARIABLE, spec.width],
        }
        for spec in output_specs(manifest, manifest.graphs)
    ]
    return {
        "name": manifest.name,
        "versions": list(dict.fromkeys(one.bundle.version for one in shelf.answering() if one.name == loaded.name)),
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": model_parameters(loaded),
    }


def model_parameters(loaded: LoadedBundle) -> dict[str, str | bool | float]:
    """What the tensors' names do not say. Values are plain, as the protocol has no lists here."""
    manifest = loaded.bundle.manifest
    columns = manifest.levels or calibrated_names(manifest.task, manifest.values)
    return {
        "task": manifest.task,
        "columns": ",".join(columns),
        "input_sets": ";".join(",".join(graph.available) for graph in manifest.graphs),
        "window_s": manifest.inputs.window_s,
        "confidence_level": manifest.graphs[0].calibration.confidence_level,
        "trained_on": manifest.provenance.trained_on,
        "warnings": " ".join(bundle_warnings(manifest)),
    }
