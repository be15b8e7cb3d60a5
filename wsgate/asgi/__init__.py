"""Scopes, and ASGI messages to protocol events and back, without I/O."""
