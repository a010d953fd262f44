"""What a server tells about itself: figures in Prometheus' format, on a port of their own."""
