"""Images: how they are cut into variables, and the benchmarks that consist of them."""
