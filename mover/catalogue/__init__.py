"""What every error means and what to do about it: the words behind `mover explain`. Tables without I/O."""
