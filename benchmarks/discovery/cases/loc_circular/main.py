import left

print(left.go(2))
