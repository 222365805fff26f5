"""What every run measures of itself: sums inside the compiled loop, records outside."""
