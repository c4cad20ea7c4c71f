"""Run calls in retained contexts: warm processes with the environment, the code and the set-up result of a function."""
