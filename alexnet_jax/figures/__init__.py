"""Figures of nets, runs and records."""
