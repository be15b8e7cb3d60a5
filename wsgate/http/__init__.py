"""HTTP without I/O: what all its versions share."""
