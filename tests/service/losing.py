"""`pkdot serve` with a device that can be lost, and a reload that never comes back.

A window of sound that is nothing but nines takes the device with it: from then on nothing can be computed.
"""

import sys
import threading

import numpy as np
from numpy.typing import NDArray

from service.__main__ import main
from service.bundles.loader import ShelfReader
from service.bundles.shelf import BundleShelf
from service.runtime.cancellation import Cancellation
from service.runtime.runner import Arrays, GraphRunner

lost = threading.Event()
read_first, run_checked = ShelfReader.read, GraphRunner.run_checked


def run_or_fail(runner: GraphRunner, inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
    if "voice" in inputs and (inputs["voice"] == 9).all():
        lost.set()
    if lost.is_set():
        raise RuntimeError("CUDA failure 719")
    return run_checked(runner, inputs, cancel)


def read_once(reader: ShelfReader) -> BundleShelf:
    ShelfReader.read = hang  # type: ignore[method-assign]
    return read_first(reader)


def hang(_: ShelfReader) -> BundleShelf:
    sys.stderr.write("hanging\n")
    sys.stderr.flush()
    threading.Event().wait()
    raise AssertionError


GraphRunner.run_checked = run_or_fail  # type: ignore[method-assign]
ShelfReader.read = read_once  # type: ignore[method-assign]
sys.exit(main())
