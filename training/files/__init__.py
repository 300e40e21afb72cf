"""Files that people write, and files that are written whole or not at all."""
