"""The parts of the report, a module each."""
