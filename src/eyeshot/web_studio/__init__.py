"""The studio: any network, any picture, any unit, in the browser.

:class:`Session` answers questions in plain data, with the numbers of :func:`eyeshot.see`,
:func:`eyeshot.explain` and :func:`eyeshot.receptive_field`. :class:`Server` hands them to a page of
plain ES modules (``page/``) on this machine alone.
"""

from __future__ import annotations

from eyeshot.web_studio.comparing import other_weights
from eyeshot.web_studio.looks import WidePicture, open_any
from eyeshot.web_studio.session import Session
from eyeshot.web_studio.subjects import (
    Picture,
    Subject,
    bundled_digits,
    digit_pictures,
    of_tensor,
    open_picture,
)

__all__ = [
    "Picture",
    "Session",
    "Subject",
    "WidePicture",
    "bundled_digits",
    "digit_pictures",
    "of_tensor",
    "open_any",
    "open_picture",
    "other_weights",
]
