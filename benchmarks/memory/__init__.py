"""The memory a run holds, beside what was allowed and what was predicted.

``python -m benchmarks memory`` runs every case of :mod:`benchmarks.memory.cases` in a process of
its own and prints a row for each: the budget, the predicted and the measured peak of the whole
process (``VmHWM``, from the interpreter's start to the finished output). Each case is refused one
byte, runs within the least that the refusal names, and in another process within 120 MB more.

A budget that is exceeded ends it with exit code 1, and so does a prediction that is more than a
tenth away from what was measured.
"""

from benchmarks.memory.table import main

__all__ = ["main"]
