"""What the service tells of itself: metrics, the log, traces."""
