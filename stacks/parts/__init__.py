"""The parts of an integration: one kind of resource a module."""
