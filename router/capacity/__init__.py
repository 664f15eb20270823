"""The slot ledger: which slots a region has, and who holds each of them, on Valkey or Redis."""
