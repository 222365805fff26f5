"""Automatic training compared with a grid search and common defaults: `make bench-auto`."""
