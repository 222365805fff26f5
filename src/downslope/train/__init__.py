"""Parts of `fit`: a run put together, its training loop, and its folder."""
