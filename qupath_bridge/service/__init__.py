"""The job service: exports that are asked for over HTTP and done by workers on many machines.

The service adds no way to export. A job is the run of :func:`qupath_bridge.export`, cut into
messages: one that prepares it, one per slide, and one that finishes it.
"""
