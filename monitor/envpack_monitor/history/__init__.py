"""The history: usages in one SQLite file that many processes write; batches, upkeep, export."""
