"""Runs as a person holds them: launched, found again, watched, steered, compressed, exported."""
