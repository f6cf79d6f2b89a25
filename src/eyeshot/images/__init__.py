"""Pictures in and out: whole ones here and now, large ones by windows.

:func:`read` and :func:`write` handle a picture that fits in memory. :func:`open_source` opens an
image of any size to be read by windows.
"""

from eyeshot.images.sources.opening import open_source
from eyeshot.images.sources.source import Source
from eyeshot.images.whole import WHOLE_LIMIT, read, write

__all__ = ["WHOLE_LIMIT", "Source", "open_source", "read", "write"]
