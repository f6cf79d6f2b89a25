"""Pictures in and out: whole ones here and now, large ones by windows.

:func:`read` and :func:`write` handle a picture that fits in memory.
"""

from eyeshot.images.whole import WHOLE_LIMIT, read, write

__all__ = ["WHOLE_LIMIT", "read", "write"]
