"""Cores, threads, and how they and the event loop hand work to each other."""
