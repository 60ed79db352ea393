"""Images: read headers and pixels, and cut windows.

Rows and columns are those of the stored pixels, as in PySpacer and CoralNet: the EXIF orientation
is recorded and never applied. A truncated image is rejected, never filled up with grey. Of several
pictures in one file, the first is used.
"""

VERSION = 6
"""Of everything that reads headers, pixels and no-data masks; part of the recipes."""
