"""The project file and its parts: images, builders, URIs, classes."""
