"""Stain normalisation: the colours of a slide become those of a target."""
