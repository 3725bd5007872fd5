"""Pure decisions: which boxes, which labels, which ids."""
