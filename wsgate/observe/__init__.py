"""What is reported to people: the log and the access log."""
