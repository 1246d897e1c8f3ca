"""What one rank does: the loop, its batches, evaluation, the chain of a compression, and a recording of its steps."""
