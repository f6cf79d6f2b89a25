"""Other people's networks, made into our Graph."""
