"""Verbs: what an operator can ask for, one module each."""
