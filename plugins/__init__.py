"""Hosts of the runtime: command line, worker process and GIMP filter."""
