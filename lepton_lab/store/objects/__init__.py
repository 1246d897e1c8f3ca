"""
Runs on an object store: LEPTON_LAB_HOME=s3://bucket/prefix, or another address that fsspec knows.

A run works in a folder of this machine, as fast as any. Beside it a process of its own, `carrier`, carries the folder
up as a log of numbered `segments`, each put where there is none: so a second writer is refused, and a reader that
applies them in turn has the folder as it was at a moment. Checkpoints go under fresh prefixes, a marker last (`saved`).
Elsewhere `following` brings the log down, and the folder it makes is a run's as any. `link` says which of both it is.

Where ranks are on machines that share no disk, each has the run by a `mirror`, and sends what its ranks write under a
prefix of its own, which `gathering` lays into the folder of the run's supervisor.
"""
