"""The wire: Istio's certificate service over gRPC. Calls `issuance`, knows nothing below it."""
