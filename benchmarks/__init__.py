"""Speed and memory compared with other packages: `python -m benchmarks`, explained in README.md."""
