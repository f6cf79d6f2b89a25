"""Other people's tiles held against the whole pass: is that tiling right?"""

from eyeshot.tiling.auditing import audit
from eyeshot.tiling.verdict import Audit

__all__ = ["Audit", "audit"]
