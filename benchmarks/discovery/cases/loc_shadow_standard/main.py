import statistics

print(statistics.centre([1, 9, 2]))
