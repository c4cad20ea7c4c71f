import requests
import tabulate

print(requests.get("x"), tabulate.tabulate([[1]], tablefmt="plain"))
