"""What FFmpeg reads of a recording, within limits: containers, pictures, frames and sound."""
