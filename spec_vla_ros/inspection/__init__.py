"""``spec-vla inspect``: what is in a model, a draft head or a recording, what fits with what, what would go wrong."""
