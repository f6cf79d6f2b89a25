"""Pictures in and out: whole ones here and now, large ones by windows.

:func:`read` and :func:`write` handle a picture that fits in memory. :func:`open_source` opens an
image of any size to be read by windows, :func:`open_sink` one to be written by bands and resumed.
"""

from eyeshot.images.layouts import Index, Layout, Span, understand
from eyeshot.images.limits import WHOLE_LIMIT
from eyeshot.images.sinks import check_target, open_sink, unfinished
from eyeshot.images.sinks.sink import Arrangement, ArraySink, Sink
from eyeshot.images.sources import open_source
from eyeshot.images.sources.source import Source
from eyeshot.images.whole import Picture, read, read_picture, write

__all__ = [
    "WHOLE_LIMIT",
    "Arrangement",
    "ArraySink",
    "Index",
    "Layout",
    "Picture",
    "Sink",
    "Source",
    "Span",
    "check_target",
    "open_sink",
    "open_source",
    "read",
    "read_picture",
    "understand",
    "unfinished",
    "write",
]
