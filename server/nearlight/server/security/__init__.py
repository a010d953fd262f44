"""Who may call a server, how much they may ask for, and how the wire is protected."""
