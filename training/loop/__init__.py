"""Epochs, and what they run on: one process or several, checkpoints, curves."""
