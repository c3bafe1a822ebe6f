"""The worker process: nstrt for other programs, over the protocol of ``docs/worker.md``."""
