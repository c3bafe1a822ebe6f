"""Formats of picture files: their facts, repairs and colour data, found before decoding."""
