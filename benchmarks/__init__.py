"""The benchmarks: `make bench` and `make bench-quick`. No part of the product or its tests."""
