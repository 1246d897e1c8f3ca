"""
Side-by-side figures of speed and memory: `python -m benchmarks`, or `make bench`.

A topic is a module with a TITLE and `measure(quick) -> list[Row]`, and a name in `__main__.TOPICS`, or in `LONG` if it
is for its own command alone. What is compared takes turns (A B A B ...) in processes of its own, so that a machine that
slows down slows both.
"""
