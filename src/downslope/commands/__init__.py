"""The commands of `downslope`, a module each: what its words mean, and whom it asks."""
