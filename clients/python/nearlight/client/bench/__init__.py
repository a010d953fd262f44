"""Measures a server: latency and throughput under load, next to what the machine could do without it."""
