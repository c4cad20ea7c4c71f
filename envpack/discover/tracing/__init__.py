"""What a program or a function is seen to need while it runs, and whether the answer suffices.

- `agent`, `runner`: run inside the traced process; standard library only.
- `session`: starts a program under the agent, and reads the `events` that it noted.
- `attribution`, `softness`: from events to distributions and local files: which of them are needed, and which were only
  taken because they were there.
- `replica`: an environment of nothing but the answer; `verification`: the program runs there, and what it misses is
  added until it ends as it did before.
"""
