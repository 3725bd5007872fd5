"""Benchmarks: ``python -m benchmarks`` checks the goals, the other files look closer at one part.

docs/performance.md says what is measured and how to repeat it.
"""
