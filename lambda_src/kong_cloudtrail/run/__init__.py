"""One run: read, drop what was delivered before, map, deliver, mark. It serves any source and destination."""
