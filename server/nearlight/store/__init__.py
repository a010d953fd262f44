"""Durable collections of vectors: SQLite truth, FAISS search."""
