"""The GIMP 3 filter: the plug-in's files, and their installation where GIMP finds them."""
