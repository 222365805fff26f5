"""How intervals are made: ratios, series of steps, delete-one jackknife, checks of arguments."""
