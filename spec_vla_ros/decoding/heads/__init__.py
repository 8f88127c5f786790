"""Trained heads that draft for a verifier."""
