"""A CA key in an HSM, by PKCS #11.

`kind` is what the configuration finds; `store` holds the key for
`signing.keyed`, over `opening` (from a token to a checked key), `module` (the
library in this process) and `threads` (who may call it). Nothing here imports
python-pkcs11 before a backend of this type is opened or examined: it is the
extra `pkcs11`.

Source: PKCS #11 v2.40 and v3.0 (OASIS).
"""
