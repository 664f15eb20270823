"""The GPU side: workers run generation models, one job per slot."""
