"""The GIMP 3 filter: the plug-in file, and putting it where GIMP finds it."""
