"""The whole 7B model on this machine: written, loaded, asked, deleted."""
