"""The project file and what it names: images, builders, URIs, classes."""
