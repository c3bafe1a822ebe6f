"""Packages are found here: ``pyproject.toml`` cannot prefix what it finds with ``nstrt``."""

from setuptools import find_packages, setup

setup(
    packages=[
        f"nstrt.{name}" for name in find_packages(include=["exporter*", "runtime*", "plugins*"])
    ]
)
