"""A whole fleet on one machine: routers, workers and Valkeys as child processes."""
