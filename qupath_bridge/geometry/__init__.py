"""Exact geometry: functions from arrays and shapely geometries to arrays."""
