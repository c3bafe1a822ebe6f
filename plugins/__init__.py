"""Hosts: the command line, and later a worker process and the GIMP filter."""
