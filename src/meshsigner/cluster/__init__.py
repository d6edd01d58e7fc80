"""What the cluster gets from its CA: roots in every namespace, and istiod's serving certificate.

`leader` decides who of all processes writes (by `lease`), `writing` fences and
paces each write, `root_config_maps`, `trust_bundle` and `serving_secret` keep
one kind of object each as it should be, `order` says what must come before what
when roots change. `bootstrap` does it once, before anything runs.
"""
