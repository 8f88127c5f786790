"""The demonstration: the simulated arm, driven by the real act node over DDS, measured, filmed and recorded."""
