"""Everything the instruments tell about one point of training, put together."""
