"""Who signs: one backend a file, and the making of CAs and serving certificates.

A backend implements one of the two signing ports. It decides nothing about a
certificate: what is certified is in the order, how it looks is `profile`'s
matter, and what it answers is checked by `verify`.
"""
