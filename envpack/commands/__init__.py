"""The command `envpack`: the only room of the house that prints. Start at `envpack.commands.main`."""
