from formats import load_yaml

print(load_yaml("[1, 2]"))
