"""What serves a bundle."""

import os

# `service.threads.plan` alone divides the cores: numpy's BLAS would start a thread for each one of the host beside it.
# It reads this when numpy is imported, so it has to stand before anything else of the service.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Since 1.29 onnxruntime's Linux wheels send the names and hashes of graphs to their maker. It reads this when imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
