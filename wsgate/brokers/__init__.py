"""Brokers: how publications reach the subscribers of this worker, of others, and of machines."""
