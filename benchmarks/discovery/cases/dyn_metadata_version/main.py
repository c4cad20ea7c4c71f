from importlib.metadata import version

major = int(version("beautifulsoup4").split(".")[0])
print(major >= 4)
