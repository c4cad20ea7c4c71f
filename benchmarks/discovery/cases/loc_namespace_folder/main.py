import plugins.text.wrap as wrap

print(wrap.count("a b"))
