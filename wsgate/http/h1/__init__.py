"""One HTTP/1.1 connection without I/O."""
