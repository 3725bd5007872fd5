"""Places to put bytes, all or nothing."""
