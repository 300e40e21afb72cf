"""onnxruntime: providers, sessions, and a graph's runs on a device."""
