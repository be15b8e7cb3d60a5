"""WebSocket frames: reading and writing them (RFC 6455 section 5)."""
