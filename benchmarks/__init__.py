"""Benchmarks: what the project claims about speed, measured as ratios within one run.

``python -m benchmarks`` runs every module of this folder that has a ``main``; ``python -m
benchmarks filters`` runs one. A new benchmark is a new file here.
"""
