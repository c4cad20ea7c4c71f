"""The client's side: which call goes to which context process, and what to do when one is lost.

`state` is data and its table of transitions, `reactor` decides (pure), `loop` acts in one thread: futures, the
processes of this machine, the connections of workers elsewhere.
"""
