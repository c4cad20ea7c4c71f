from pathlib import Path

source = Path(__file__).with_name("settings.txt").read_text()
names = {}
exec(compile(source, "settings.txt", "exec"), names)
print(names["settings"])
