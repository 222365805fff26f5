"""Training that tunes itself compared with rivals, in time to a target: `make bench-selftuning`."""
