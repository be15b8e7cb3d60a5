"""The broker of the workers of one machine, the hub's program, and what publishes to it."""
