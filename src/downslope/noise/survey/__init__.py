"""Survey of gradient noise at one point of training: all instruments put together."""
