"""The queue before the devices: batches, turns, deadlines, and how long all of it will take."""
