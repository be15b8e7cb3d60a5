"""Proxies in front of the server, without I/O: whom to trust, and what they say about a client."""
