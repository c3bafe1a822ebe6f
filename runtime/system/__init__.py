"""Files, the machine, stored measurements and interrupts."""
