"""Batches: job lists, the job runner and its worker processes."""
