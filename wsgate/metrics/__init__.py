"""Numbers about a server for monitoring: what is counted, and how it is exposed. Without I/O."""
