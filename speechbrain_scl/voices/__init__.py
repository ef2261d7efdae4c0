"""Recordings from anywhere: reading them, finding speech, keeping voices."""
