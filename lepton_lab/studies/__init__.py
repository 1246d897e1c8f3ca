"""Questions asked of many runs: races, comparisons, searches, sweeps of a rate, and advice before any of them."""
