"""Sealed index generations: built apart, published by the database, searched beside the exact head."""
