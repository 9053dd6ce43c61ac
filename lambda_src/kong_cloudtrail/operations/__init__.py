"""Verbs: what an operator can ask for, one module each. The function and the command line call the same.

A module of a verb has a request, a result and ``VERB``, which `verb.find` looks up by the verb's name.
"""
