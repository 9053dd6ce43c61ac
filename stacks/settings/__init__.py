"""The properties of the construct, in groups, and their checks."""
