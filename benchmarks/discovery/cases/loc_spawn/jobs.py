def square(x):
    import mpmath

    return int(mpmath.mpf(x) ** 2)
