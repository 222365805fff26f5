"""What `fit` is made of: the parts put together, one run in the air, and its folder."""
