"""What starts a run's ranks and ends them, and on which devices: `rank` is what is started, `local` is this machine."""
