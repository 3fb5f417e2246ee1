"""Load tests and benchmarks: they drive the product from outside, and nothing of it imports them."""
