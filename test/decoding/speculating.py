"""Speculative decoding where every bin of every dimension moves the arm, so that settings alone say the tolerance."""

from spec_vla_ros.decoding import decoder

WIDTH = 0.001  # m, rad, gripper units of a bin


def decode_speculative(verifier, prompt, action_dim, drafters, settings, *more, **named):
    """:func:`spec_vla_ros.decoding.decoder.decode_speculative` of an action of ``action_dim`` dimensions."""
    tolerance = settings.tolerance((WIDTH,) * action_dim)
    return decoder.decode_speculative(verifier, prompt, tolerance, drafters, settings, *more, **named)
