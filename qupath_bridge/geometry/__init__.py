"""Arrays and shapely in, arrays out."""
