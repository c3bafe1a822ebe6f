"""Files written while a run goes on: previews and time lapses."""
