"""Pure decisions: no clock, randomness or I/O; values in, one frozen value out."""
