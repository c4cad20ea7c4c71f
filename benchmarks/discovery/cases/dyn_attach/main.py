import toolbox

print(toolbox.pack({"a": 1}))
