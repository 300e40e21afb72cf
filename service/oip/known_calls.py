"""What was asked before: a client's JSON is the same each time, only the tensors behind it differ."""

from typing import Final

from service.bundles.shelf import LoadedBundle
from service.oip.calls import Call, understand
from service.oip.messages import read_request

MAX_KNOWN: Final = 64
MAX_JSON_BYTES: Final = 2048


class KnownCalls:
    """They name bundles, and so must end when others are loaded; they hold no tensor's values."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, bytes], Call] = {}
        """By the bundle that is asked, and the JSON."""

    def understand(self, text: bytes, bundle: LoadedBundle, *, max_batch: int) -> Call:
        """As `read_request` and `calls.understand`, with the errors of both."""
        key = id(bundle), text
        call = self.known.get(key)
        if call is None:
            call = understand(read_request(text), bundle, max_batch=max_batch)
            if len(text) <= MAX_JSON_BYTES and call.id is None and all(one.data is None for one in call.inputs):
                if len(self.known) >= MAX_KNOWN:
                    self.known.clear()
                self.known[key] = call
        return call
