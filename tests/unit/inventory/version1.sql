-- An inventory of schema version 1 with one row, as its release wrote it. Never
-- changed: every later version must open it. Its certificate is no certificate.
PRAGMA application_id = 1297303879;
PRAGMA user_version = 1;
CREATE TABLE certificates (
    id INTEGER PRIMARY KEY,
    serial TEXT NOT NULL,
    identity TEXT NOT NULL,
    cluster TEXT NOT NULL,
    namespace TEXT NOT NULL,
    pod_name TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    node_name TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    impersonator TEXT NOT NULL,
    auth_method TEXT NOT NULL,
    issuer TEXT NOT NULL,
    backend TEXT NOT NULL,
    public_key_sha256 TEXT NOT NULL,
    csr_sha256 TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    policy_generation INTEGER NOT NULL,
    client_address TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    certificate_der BLOB NOT NULL
);
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer);
CREATE INDEX certificates_identity ON certificates (identity, issued_at);
CREATE INDEX certificates_issued_at ON certificates (issued_at);
CREATE INDEX certificates_not_after ON certificates (not_after);
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    written_at INTEGER NOT NULL,
    filler BLOB NOT NULL
);
INSERT INTO probe VALUES (1, 1795521600000000, zeroblob(24576));
INSERT INTO certificates VALUES (
    7, '4f9b217c0d55e813', 'spiffe://cluster.local/ns/foo/sa/bar', 'Kubernetes', 'foo',
    'bar-0', 'uid-0', 'node-0', 'jti-0', 'spiffe://cluster.local/ns/istio-system/sa/ztunnel',
    'token_review', 'ab', 'embedded', 'cd', 'ef', 1795521480000000, 1795608000000000, 3,
    'ipv4:127.0.0.1:7', 1795521600123456, 0, x'3003020101'
);
