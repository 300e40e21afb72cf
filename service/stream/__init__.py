"""Live streams over WebSockets: media in, a window every hop."""
