"""
Runs as a person holds them: launched, found again, watched, steered, compressed, exported.

What may run is asked in `checks`, and a new rule goes there; `launching` makes the folder and hands it to a launcher.
"""
