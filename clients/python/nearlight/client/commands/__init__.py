"""The subcommands of `nearlight` that talk to a server; each module is imported only when it is used."""
