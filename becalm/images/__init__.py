"""Images: how they are cut into variables, and the benchmarks that are drawn on them."""
