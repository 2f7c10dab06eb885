"""Upstream's package, as seen from outside."""
