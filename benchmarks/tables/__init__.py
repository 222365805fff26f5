"""Quality of predictions on real tables, nothing said, beside the packages that people use."""
