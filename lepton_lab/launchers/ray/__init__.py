"""
Ray: a run's ranks are actors of a placement group, queued by the cluster's own scheduler.

`settings` is what a user says, `cluster` the connection to one or a cluster of our own, `supervisor` what places and
watches the actors, and `actor` one of them. Ray itself is imported by the supervisor's process and the actors' alone.
"""
