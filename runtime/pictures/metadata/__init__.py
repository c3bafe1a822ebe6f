"""A photo's resolution, EXIF, IPTC and XMP, and their way into results."""
