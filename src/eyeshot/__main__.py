"""``python -m eyeshot`` is ``eyeshot``."""

import sys

from eyeshot.cli import main

sys.exit(main())
