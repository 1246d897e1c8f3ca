"""The run's folder, read and written: spec, events, commands, checkpoints, user code. `story` says what rows mean."""
