"""Atomic files, host information, stored measurements and interrupts."""
