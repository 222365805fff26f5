"""Readings of every run: sums inside the compiled loop, records outside."""
