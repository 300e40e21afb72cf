"""One run for requests that ask the same."""
