"""GET /docs, and the description that it shows."""
