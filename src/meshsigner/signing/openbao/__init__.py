"""OpenBao and HashiCorp Vault: its PKI as a remote CA, its transit engine as a key store."""
