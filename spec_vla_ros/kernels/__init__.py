"""Operators of our own that are one kernel of a GPU each, written in Triton."""
