"""The demo: a deployment on one machine, to watch and to break."""
