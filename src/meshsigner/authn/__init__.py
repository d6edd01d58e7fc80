"""Who calls: adapters that prove a caller from what it showed.

`clusters` chooses the cluster, `jwt` checks tokens against public keys,
`token_review` asks an API server. What a token may say is decided in `tokens`,
what a key may verify in `keys`; both are pure. Nothing is shared between
clusters.
"""
