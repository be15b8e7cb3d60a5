"""The ASGI app of the metrics' address: metrics, probes, and a live page with its WebSocket."""
