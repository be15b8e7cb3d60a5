"""HTTP without I/O: what its versions have in common."""
