"""A corpus becomes tensors in batches."""
