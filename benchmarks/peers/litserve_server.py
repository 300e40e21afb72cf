"""LitServe: a file in a form, its own batching."""

import litserve
import numpy as np
from fastapi import Request, Response
from graph import MAX_BATCH, PORT, Clips, Outputs, clip_from, open_graph
from starlette.datastructures import FormData


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature of the base
        self.run = open_graph()

    def decode_request(self, request: Request) -> Clips:
        form: FormData = request  # what comes of a Request with a form
        return clip_from(form["clip"].file.read())

    def batch(self, inputs: list[Clips]) -> Clips:
        return np.stack(inputs)

    def predict(self, x: Clips) -> Outputs:
        return self.run(x)

    def unbatch(self, output: Outputs) -> list[Outputs]:
        return list(output)

    def encode_response(self, output: Outputs) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(Model(max_batch_size=MAX_BATCH, batch_timeout=0.0), accelerator="cpu")
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning", access_log=False)
