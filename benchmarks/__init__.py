"""How fast the collector is, beside the proof of concept's algorithm and beside the floor of its two APIs."""
