"""
torchrun's elastic agents: a run over several machines, on which nodes may come and go.

`settings` is what a user says, `coordinator` the supervisor of such a run, `node` what a machine runs, `agent` torch's
part of that, and `worker` one of its ranks. The coordinator keeps the rendezvous, so that no machine that trains is
special. `apart` is for machines that share no disk.
"""
