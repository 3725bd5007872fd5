"""What several benchmarks share: slides, projects, processes, and the description of a machine."""
