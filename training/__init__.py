import os

# Since 1.29 onnxruntime's Linux wheels send the names and hashes of graphs to their maker. It reads this when imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
