"""Python client for a Nearlight server, and the `nearlight` command."""
