"""The digest that ties a grant, and an idempotency claim, to one request. Router and worker have to agree on every byte."""

import hashlib

from homeward.v1.generation_pb2 import GenerateRequest


def request_sha256(request: GenerateRequest) -> bytes:
    """SHA-256 of the deterministic serialisation, 32 bytes."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
