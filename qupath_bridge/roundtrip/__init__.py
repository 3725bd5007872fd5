"""What goes back to QuPath and comes from it: provenance, status, write-back."""
