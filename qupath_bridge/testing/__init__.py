"""Synthetic slides and projects, contract suites, strategies.

Ships with the library; product code never imports it.
"""
