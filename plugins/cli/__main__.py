"""Entry of ``python -m nstrt.plugins.cli``."""

from nstrt.plugins.cli import main

main()
