import lazy_loader as lazy

toolz = lazy.load("toolz")
biology = lazy.load("Bio.Seq")

print(list(toolz.sliding_window(2, range(4))))
