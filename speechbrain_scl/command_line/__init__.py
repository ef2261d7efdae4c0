"""What a user types: the command, experiments and their options."""
