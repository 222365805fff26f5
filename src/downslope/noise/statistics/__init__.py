"""Tools of the instruments: intervals, series of steps, samples of gradients, checked arrays."""
