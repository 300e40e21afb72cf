"""Whether every device still computes what it has computed before."""

import asyncio
from contextlib import ExitStack

from service.batcher import Batcher
from service.device import BuildItem, Runner


async def run_everywhere(batcher: Batcher, runner: Runner, golden: BuildItem, *, deadline_s: float) -> None:
    """Compute the golden input on each device, where it comes before all that waits; returns when all have done it.

    `deadline_s` is on the batcher's clock. Raises what `Batcher.run` does, as soon as it fails on one device.
    """
    answers = []
    with ExitStack() as stack:
        for device in batcher.threads:
            request = batcher.submit(runner, [golden], deadline_s=deadline_s, device=device)
            stack.callback(batcher.leave, request)
            answers.append(request.answer)
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_EXCEPTION)
        for answer in done:
            answer.result()
