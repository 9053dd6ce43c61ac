"""A simulator of Kong's Admin API with its audit log."""
