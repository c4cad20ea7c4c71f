from importlib import resources

PACKAGE = "astropy_iers_data"
with resources.as_file(resources.files(PACKAGE).joinpath("data", "Leap_Second.dat")) as path:
    print(path.stat().st_size > 1000)
