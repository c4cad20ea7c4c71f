"""Large values at the client's end: held once in memory files, named in calls, freed when nobody needs them."""
