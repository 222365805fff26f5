"""Mutation check of the core: how many small faults, put into it at random, its tests find."""
