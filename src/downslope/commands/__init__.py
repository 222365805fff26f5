"""The commands of `downslope`, one module each."""
