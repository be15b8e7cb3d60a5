"""What is reported to people and programs: events, the access log, the log of the command line."""
