from lab.tools.numbers import double

print(double(2))
