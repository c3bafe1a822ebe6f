"""Colour encodings: transfer functions, primaries, ICC profiles, tone mapping, Lab."""
