"""Intermediate mode: one short-lived CA from elsewhere, leaves signed here.

How a CA that gives a few certificates a second, or is away for half an hour,
serves a mesh: it is asked once for a CA below it, and again well before that
one ends. `source` is the port to whoever gives it, `keeper` decides when to
ask, `store` keeps what was given, `signer` signs.
"""
