"""Synthesised corpora in the layouts of real ones; not part of the package."""
