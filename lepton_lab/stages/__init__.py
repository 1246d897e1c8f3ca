"""The stages of a model's life as methods of one object: pre-train, fine-tune, optimise, deploy."""
