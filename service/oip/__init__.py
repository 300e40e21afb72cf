"""The Open Inference Protocol, version 2, over REST: tensors in, tensors out, for every graph of every bundle."""
