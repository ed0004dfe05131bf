"""Names of headers that more than one room of the API knows."""

IDEMPOTENCY_KEY = "Idempotency-Key"
