"""The SDK: what a regional gateway needs to send generation requests home."""
