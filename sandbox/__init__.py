"""A whole AWS and a Kong on one machine: what the demo, the tests and the benchmarks run against.

Everything listens on 127.0.0.1 only. See README.md in this directory for what each part is and how to use it.
"""
