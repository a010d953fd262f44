"""Distributed engines behind the protocol of the store; each is imported only where it is asked for."""
