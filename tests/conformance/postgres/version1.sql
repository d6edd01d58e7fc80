-- A database of version 1 with one row, as version 1 made it; @NAME@ stands for its schema.
CREATE SCHEMA @NAME@;
SET search_path TO @NAME@;
CREATE TABLE schema_version (version integer PRIMARY KEY, migrated_at timestamptz NOT NULL);
CREATE TABLE certificates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    serial text NOT NULL,
    identity text NOT NULL,
    cluster text NOT NULL,
    namespace text NOT NULL,
    pod_name text NOT NULL,
    pod_uid text NOT NULL,
    node_name text NOT NULL,
    credential_id text NOT NULL,
    impersonator text NOT NULL,
    auth_method text NOT NULL,
    issuer text NOT NULL,
    backend text NOT NULL,
    public_key_sha256 text NOT NULL,
    csr_sha256 text NOT NULL,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    policy_generation bigint NOT NULL,
    client_address text NOT NULL,
    issued_at timestamptz NOT NULL,
    delivered boolean NOT NULL,
    certificate_der bytea NOT NULL
);
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer);
CREATE INDEX certificates_identity ON certificates (identity, issued_at);
CREATE INDEX certificates_issued_at ON certificates (issued_at);
CREATE INDEX certificates_not_after ON certificates (not_after);
CREATE TABLE probe (id integer PRIMARY KEY, written_at timestamptz NOT NULL);
CREATE TABLE intents (
    token text PRIMARY KEY,
    backend text NOT NULL,
    at timestamptz NOT NULL,
    owner text NOT NULL,
    draft text NOT NULL
);
INSERT INTO schema_version VALUES (1, '2026-11-25T00:00:00Z');
INSERT INTO certificates (serial, identity, cluster, namespace, pod_name, pod_uid, node_name, credential_id, impersonator, auth_method, issuer, backend, public_key_sha256, csr_sha256, not_before, not_after, policy_generation, client_address, issued_at, delivered, certificate_der)
VALUES ('4f9b217c0d55e813', 'spiffe://cluster.local/ns/bookinfo/sa/productpage', 'Kubernetes', 'bookinfo', 'productpage-0', '0f3c1d2e', 'node-7', '5f0a', '', 'jwt', repeat('ab', 32), 'embedded', repeat('cd', 32), repeat('ef', 32), '2026-11-20T11:58:00Z', '2026-11-21T12:00:00Z', 1, 'ipv4:127.0.0.1:41000', '2026-11-20T12:00:00Z', true, '\x3082');
