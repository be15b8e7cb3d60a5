"""TLS without I/O: sessions over memory, and the certificates that the settings name."""
