"""Files made from the events of a run: previews and time lapses."""
