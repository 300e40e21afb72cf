"""A body as it comes, part by part."""

from typing import Self


class Gathered:
    """Parts of a body that become one only when they are asked for; a single one is given as it came."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def __iadd__(self, part: bytes) -> Self:
        self.parts.append(part)
        self.size += len(part)
        return self

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
