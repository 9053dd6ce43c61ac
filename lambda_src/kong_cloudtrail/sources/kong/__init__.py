"""Kong Gateway's Admin API as a source: its answers, paging and filters, and the cases in which they are unreliable."""
