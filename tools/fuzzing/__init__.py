"""Damaged files of every kind that Eyeshot reads: no traceback, no hang, no gigabytes.

    python -m tools.fuzzing --seed 0 --count 10000 --seconds 3600 --keep found/

An input is known by the seed and its number: ``--only NUMBER`` repeats one.
"""
