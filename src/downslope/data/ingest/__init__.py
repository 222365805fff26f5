"""From tables as people keep them to stored rows: read, learn the encoding, shuffle, write."""
