"""What predictions are worth, for how sure that is, and for a new person: scores, intervals, tests, calibration."""
