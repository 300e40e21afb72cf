"""MLServer: the Open Inference Protocol with base64 in JSON, as its REST reads no binary tensors; its own batching."""

import asyncio

import numpy as np
from graph import clip_from, open_graph
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    async def load(self) -> bool:
        self.run = open_graph()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        bodies = Base64Codec.decode_input(payload.inputs[0])
        output = await asyncio.to_thread(self.run, np.stack([clip_from(body) for body in bodies]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", output)])
