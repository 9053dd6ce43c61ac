"""One run: read, drop what was delivered, map, deliver, remember. It knows neither source nor destination."""
