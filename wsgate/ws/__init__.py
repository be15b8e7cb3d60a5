"""The WebSocket protocol without I/O: bytes and times come in as arguments."""
