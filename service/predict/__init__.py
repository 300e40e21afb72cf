"""Predictions: from a recording to windows, and from what is computed to an answer."""
