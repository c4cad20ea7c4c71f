import pkgutil

data = pkgutil.get_data("tzdata", "zoneinfo/Europe/Paris")
print(data[:4])
