"""Tests of the simulated engine: in process, in virtual time."""
