"""The gRPC service: transport, batching, inference."""
