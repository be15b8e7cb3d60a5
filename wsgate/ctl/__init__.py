"""The command `wsgate ctl`, which controls a running server through its control socket."""
