"""A part of an open file, read as if it were a file of its own."""

import errno
import io
import os


class PieceReader(io.RawIOBase):
    """`size` bytes of an open file from `start`; the file's own position is left alone, and it is left open."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.size = size
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "seek before the start")
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub wants the private Buffer type
        left = max(0, self.size - self.position)
        data = os.pread(self.descriptor, min(len(buffer), left), self.start + self.position)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
