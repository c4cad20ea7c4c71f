"""What calls load that no import statement names: by a module's name, by path, by command, by metadata."""
