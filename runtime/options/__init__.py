"""The options of a run, their presets and their text forms."""
