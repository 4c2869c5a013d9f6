"""The harness of the benchmarks: servers, inputs, contestants, measuring, targets, tables."""
