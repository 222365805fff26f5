"""Automatic training beside a grid search and the defaults people use: `make bench-auto`."""
