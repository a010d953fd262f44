"""The service: transport, batching and inference over gRPC."""
