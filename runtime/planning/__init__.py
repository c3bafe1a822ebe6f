"""The plan of a run: scales, engine, provider, memory and time."""
