import runpy

names = runpy.run_module("simplejson.tool", run_name="tool")
print("main" in names)
