"""
Slurm: a run whose nodes are the tasks of one job, which waits in Slurm's queue and is queued again where it must go.

`settings` is what a user says, `supervisor` the supervisor of such a run, `job` its job as seen from there, `task` what
the job runs on each node, which is torchrun's agent as in `torchrun.node`, and `commands` are Slurm's. submitit writes
the job's script, submits it, and has Slurm queue it again.
"""
