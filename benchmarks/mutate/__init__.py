"""Mutation check of the core: the share of small random faults that its tests find."""
