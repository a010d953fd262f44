"""A collection into files, and files into a collection: streaming, and resumed where it was interrupted."""
