"""Supervised training."""
