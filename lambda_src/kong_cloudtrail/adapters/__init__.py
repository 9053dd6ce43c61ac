"""What the ports are in the world: one library each, its errors translated into ours."""
