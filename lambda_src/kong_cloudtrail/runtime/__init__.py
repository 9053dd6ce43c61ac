"""The process around a run: secrets, redaction, logs and metrics, CPU affinity, the garbage collector."""
