import helper

print(helper.label("a"))
