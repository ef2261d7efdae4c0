"""Documents to send around: one verification run, several runs compared."""
