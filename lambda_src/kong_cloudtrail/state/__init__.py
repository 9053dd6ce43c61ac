"""The state between runs: the ledger and its stores, the seen set and the lock in the cache."""
