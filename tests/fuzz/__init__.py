"""Damaged and hostile files and messages by the thousand: ``make fuzz``.

Each suite makes small valid seeds, changes them, and hands them to the runtime's reader.
A reader may accept a case or refuse it in a sentence; anything else is a fault.
"""
