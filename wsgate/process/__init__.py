"""A whole program: sockets, signals, the event loop, the exit status."""
