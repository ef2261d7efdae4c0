"""A training run: crops, schedules, checkpoints, what befalls long runs."""
