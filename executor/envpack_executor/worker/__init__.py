"""A node: hosts context processes, fetches layers, obeys a manager and leaves when it falls silent.

`state` is data and its table of transitions, `reactor` decides (pure), `host` starts and speaks to context processes,
`loop` is the agent that `envpack worker` runs. The client's own machine is a node too, without the agent: the
manager's loop drives the same reactor and host itself.
"""
