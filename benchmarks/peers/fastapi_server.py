"""Plain FastAPI: raw bytes in, one run of the graph a request, in a thread of its pool."""

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from graph import PORT, clip_from, open_graph

app = FastAPI()
run = open_graph()


@app.post("/predict")
async def predict(request: Request) -> Response:
    clip = clip_from(await request.body())
    output = await run_in_threadpool(run, clip[None])
    return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
