"""Data sets by path, `KIND:PATH`: what DATASETS gives for such a name, and one opener a kind."""
