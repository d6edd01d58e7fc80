"""A load driver that knows the wire and nothing of the server behind it."""
