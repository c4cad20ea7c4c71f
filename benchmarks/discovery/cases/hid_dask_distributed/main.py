from dask.distributed import Client

if __name__ == "__main__":
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        print(client.submit(sum, [1, 2]).result())
