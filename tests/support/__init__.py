"""What tests and benchmarks share: trees to back up and servers to back them up with."""
