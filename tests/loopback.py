"""HTTP as `httpx2` does it, for services on the loopback, whose certificates nobody has to verify.

Else each call reads those of all the authorities on the machine: 50 ms of processor time, and a wait asks many times.
"""

from functools import partial
from typing import Final

import httpx2

get: Final = partial(httpx2.get, verify=False)
post: Final = partial(httpx2.post, verify=False)
stream: Final = partial(httpx2.stream, verify=False)
Client: Final = partial(httpx2.Client, verify=False)
