"""HTTP/1.1 below the app: where messages begin and end, and how their bytes are read and sent."""
