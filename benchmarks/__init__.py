"""Speed and memory beside other packages: `python -m benchmarks`, explained in README.md."""
