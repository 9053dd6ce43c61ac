"""The main job on one machine, to watch and to break."""
