"""Audit a tiling by another tool: does it give the answer of one pass over the whole image?"""

from eyeshot.tiling.auditing import audit
from eyeshot.tiling.verdict import Audit

__all__ = ["Audit", "audit"]
