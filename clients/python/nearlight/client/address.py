"""Where a server listens unless told otherwise; apart from the rest, so that commands load nothing for it."""

DEFAULT_ADDRESS = "127.0.0.1:50051"
