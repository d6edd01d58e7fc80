"""`meshsigner inventory`: which certificates were issued, to whom, and on which grounds.

Turns what a person types into a `Query`, and records into words, JSON and PEM.
Reads the file that the server writes, running or not; changes nothing.
"""

HELP = "Read which certificates were issued: to whom, when, and on which grounds."
