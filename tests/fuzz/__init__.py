"""What is fuzzed: targets that take bytes, their corpora and seeds. `scripts/fuzz` runs them with a fuzzer."""
