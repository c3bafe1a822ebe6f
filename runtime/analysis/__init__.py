"""Comparisons, grid searches, contact sheets and the report on this machine."""
