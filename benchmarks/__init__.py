"""Measurements against peers and limits. Never part of the test run: timing is not a test."""
