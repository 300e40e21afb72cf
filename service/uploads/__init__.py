"""From headers to a stored upload: who may come in, and what a form may hold."""
