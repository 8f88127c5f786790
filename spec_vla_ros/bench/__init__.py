"""Measurements that anyone can repeat: ``spec-vla bench <what>``."""
