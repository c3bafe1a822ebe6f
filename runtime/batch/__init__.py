"""Many pictures: job lists, workers and processes."""
