"""Tables and arrays with names: pandas and its kind, xarray, dask."""

from __future__ import annotations

from envpack.discover.hidden.table.cases import ends, imports, protocols, simple, starts, when
from envpack.discover.hidden.triggers import Case, Given, Trigger

_PANDAS_READERS = (
    *("read_csv", "read_table", "read_fwf", "read_json", "read_pickle", "read_stata", "read_sas", "read_parquet"),
    *("read_feather", "read_orc", "read_excel", "read_xml", "read_html"),
)

_PANDAS_WRITERS = ("to_csv", "to_json", "to_pickle", "to_stata", "to_parquet", "to_feather", "to_orc", "to_excel")

_STYLER_METHODS = (
    *("apply", "applymap", "map", "bar", "format", "format_index", "hide", "highlight_between", "highlight_max"),
    *("highlight_min", "highlight_null", "highlight_quantile", "set_caption", "set_properties", "set_table_styles"),
    *("set_table_attributes", "set_td_classes", "set_tooltips", "set_uuid", "pipe", "render", "to_html", "to_excel"),
    *("to_latex", "to_string", "to_typst", "relabel_index", "concat", "set_sticky", "hide_index", "hide_columns"),
)

_DBAPI_MODULES = ("sqlite3", "duckdb", "psycopg2", "psycopg", "pymysql", "MySQLdb", "pyodbc", "oracledb", "apsw")

_EXCEL_READ_ENGINES = (
    when("openpyxl", None, "engine", "openpyxl"),
    when("xlrd", None, "engine", "xlrd"),
    when("odf", None, "engine", "odf"),
    when("pyxlsb", None, "engine", "pyxlsb"),
    when("python_calamine", None, "engine", "calamine"),
)

_EXCEL_WRITE_ENGINES = (
    when("xlsxwriter", None, "engine", "xlsxwriter"),
    when("openpyxl", None, "engine", "openpyxl"),
    when("odf", None, "engine", "odf"),
)

_PARQUET_ENGINES = (
    when("pyarrow", None, "engine", "pyarrow"),
    when("fastparquet", None, "engine", "fastparquet"),
    Case("pyarrow | fastparquet"),
)

_PANDAS = (
    Trigger(
        "pandas",
        ("read_excel", "ExcelFile"),
        (
            *_EXCEL_READ_ENGINES,
            ends("xlrd", "io", ".xls"),
            ends("odf", "io", ".ods", ".odf", ".odt"),
            ends("pyxlsb", "io", ".xlsb"),
            Case("openpyxl"),
        ),
    ),
    Trigger(
        "pandas",
        ("to_excel",),
        (
            *_EXCEL_WRITE_ENGINES,
            ends("odf", "excel_writer", ".ods"),
            ends("xlsxwriter | openpyxl", "excel_writer", ".xlsx"),
            ends("openpyxl", "excel_writer", ".xlsm"),
            Case("xlsxwriter | openpyxl"),
        ),
        reached="method",
        # The writer that is passed has settled the engine.
        unless_set="pandas excel writer",
    ),
    Trigger(
        "pandas",
        ("ExcelWriter",),
        (
            when("xlsxwriter", 1, "engine", "xlsxwriter"),
            when("openpyxl", 1, "engine", "openpyxl"),
            when("odf", 1, "engine", "odf"),
            when("openpyxl", None, "mode", "a"),
            ends("odf", "path", ".ods"),
            Case("xlsxwriter | openpyxl"),
        ),
        sets="pandas excel writer",
    ),
    Trigger("pandas", ("read_parquet",), _PARQUET_ENGINES),
    Trigger("pandas", ("to_parquet",), _PARQUET_ENGINES, reached="method"),
    simple("pandas", "pyarrow", "read_feather", "read_orc"),
    simple("pandas", "pyarrow", "to_feather", "to_orc", reached="method"),
    simple("pandas", "tables", "read_hdf", "HDFStore"),
    simple("pandas", "tables", "to_hdf", reached="method"),
    simple("pandas", "pyreadstat", "read_spss"),
    simple("pandas", "pandas_gbq", "read_gbq"),
    simple("pandas", "pandas_gbq", "to_gbq", reached="method"),
    simple("pandas", "pyiceberg", "read_iceberg"),
    simple("pandas", "xarray", "to_xarray", reached="method"),
    Trigger(
        "pandas",
        ("read_html",),
        (
            when("lxml", None, "flavor", "lxml"),
            when("html5lib + bs4", None, "flavor", "bs4", "html5lib"),
            Case("lxml | html5lib + bs4"),
        ),
    ),
    Trigger("pandas", ("read_xml",), (when("", None, "parser", "etree"), Case("lxml"))),
    Trigger("pandas", ("to_xml",), (when("", None, "parser", "etree"), Case("lxml")), reached="method"),
    Trigger(
        "pandas",
        ("read_sql", "read_sql_query", "read_sql_table"),
        (starts("sqlalchemy", 1, "con", "sqlite:", "postgres", "mysql", "oracle", "mssql"), Case("sqlalchemy")),
        without=_DBAPI_MODULES,
    ),
    Trigger(
        "pandas",
        ("to_sql",),
        (starts("sqlalchemy", 1, "con", "sqlite:", "postgres", "mysql", "oracle", "mssql"), Case("sqlalchemy")),
        reached="method",
        without=(*_DBAPI_MODULES, "polars"),
    ),
    simple("pandas", "scipy", "sparse.to_coo", "sparse.from_spmatrix", reached="method"),
    simple("pandas", "tabulate", "to_markdown", reached="method"),
    simple("pandas", "jinja2", "to_latex", reached="method"),
    simple("pandas", "jinja2", "io.formats.style.Styler"),
    Trigger("pandas", ("style",), (Case("jinja2"),), reached="method", is_ambiguous=True),
    Trigger(
        "pandas",
        ("background_gradient", "text_gradient"),
        (Case("matplotlib"),),
        reached="method",
    ),
    Trigger(
        "pandas",
        ("set_option", "option_context"),
        (Case("plotly", Given(1, "val", values=("plotly",))), when("hvplot", 1, "val", "hvplot", "holoviews")),
        sets="pandas plotting backend",
    ),
    Trigger(
        "pandas",
        ("options.plotting.backend",),
        (when("plotly", 0, "", "plotly"), when("hvplot", 0, "", "hvplot", "holoviews")),
        sets="pandas plotting backend",
    ),
    Trigger(
        "pandas",
        ("plot", "hist", "boxplot", *(f"plot.{kind}" for kind in ("line", "bar", "barh", "area", "pie", "scatter"))),
        (
            when("plotly", None, "backend", "plotly"),
            when("hvplot", None, "backend", "hvplot", "holoviews"),
            Case("matplotlib"),
        ),
        reached="method",
        is_ambiguous=True,
        unless_set="pandas plotting backend",
    ),
    simple("pandas", "matplotlib", "scatter_matrix", "autocorrelation_plot", "parallel_coordinates", "radviz"),
    simple("pandas", "matplotlib", "andrews_curves", "lag_plot", "bootstrap_plot"),
    simple("pandas", "matplotlib + scipy", "plot.kde", "plot.density", reached="method"),
    Trigger(
        "pandas",
        ("plot",),
        (when("scipy", None, "kind", "kde", "density"),),
        reached="method",
        is_ambiguous=True,
    ),
    Trigger("pandas", _PANDAS_READERS, protocols(0, "filepath_or_buffer")),
    Trigger("pandas", _PANDAS_WRITERS, protocols(0, "path_or_buf"), reached="method"),
    Trigger(
        "pandas",
        _PANDAS_READERS,
        (when("zstandard", None, "compression", "zstd"), ends("zstandard", "filepath_or_buffer", ".zst")),
    ),
    Trigger(
        "pandas",
        _PANDAS_WRITERS[:4],
        (when("zstandard", None, "compression", "zstd"), ends("zstandard", "path_or_buf", ".zst")),
        reached="method",
    ),
    Trigger("pandas", ("read_csv", "read_json"), (when("pyarrow", None, "engine", "pyarrow"),)),
    Trigger("pandas", _PANDAS_READERS, (when("pyarrow", None, "dtype_backend", "pyarrow"),)),
    Trigger("pandas", ("convert_dtypes",), (when("pyarrow", None, "dtype_backend", "pyarrow"),), reached="method"),
    Trigger("pandas", ("ArrowDtype",), (Case("pyarrow"),)),
    Trigger(
        "pandas",
        ("astype", "Series", "array", "DataFrame"),
        tuple(Case("pyarrow", Given(position, "dtype", ends=("[pyarrow]",))) for position in (0, 1, 2)),
        reached="method",
    ),
    Trigger("pandas", ("eval", "query"), (when("numexpr", None, "engine", "numexpr"),), reached="method"),
    Trigger(
        "pandas",
        ("apply", "aggregate", "agg", "transform", "mean", "sum", "std", "var"),
        (when("numba", None, "engine", "numba"),),
        reached="method",
    ),
    Trigger(
        "pandas",
        ("interpolate",),
        (
            when(
                "scipy",
                0,
                "method",
                *("nearest", "zero", "slinear", "quadratic", "cubic", "barycentric", "polynomial", "krogh"),
                *("piecewise_polynomial", "spline", "pchip", "akima", "cubicspline", "from_derivatives"),
            ),
        ),
        reached="method",
    ),
    Trigger("pandas", ("rolling",), (Case("scipy", Given(None, "win_type")),), reached="method"),
    Trigger("pandas", ("corr", "corrwith"), (when("scipy", None, "method", "kendall"),), reached="method"),
)

_OTHER_FRAMES = (
    simple("geopandas", "pyarrow", "read_parquet", "read_feather"),
    Trigger("geopandas", ("plot",), (Case("matplotlib"),), reached="method", is_ambiguous=True),
    Trigger("geopandas", ("explore",), (Case("folium"),), reached="method", is_ambiguous=True),
    imports("pandas + pyarrow", "dask.dataframe"),
    imports("numpy", "dask.array"),
    imports("distributed", "dask.distributed"),
    imports("scipy", "dask.array.stats"),
    simple("dask", "scipy", "array.linalg.lu", "array.linalg.solve", "array.linalg.inv"),
    simple("dask", "pandas + pyarrow", "to_dataframe", reached="method"),
    simple("dask", "pandas + pyarrow", "datasets.timeseries"),
    Trigger("dask", ("diagnostics.ResourceProfiler",), (Case("psutil"),)),
    simple("dask", "bokeh", "diagnostics.visualize", "profile_visualize.visualize"),
    Trigger("dask", ("visualize",), (Case("graphviz"),), reached="method", is_ambiguous=True),
    Trigger(
        "dask",
        ("read_csv", "read_parquet", "read_json", "read_text", "from_zarr"),
        protocols(0, "path"),
    ),
    simple("polars", "xlsxwriter", "write_excel", reached="method"),
    simple("polars", "deltalake", "write_delta", reached="method"),
    simple("polars", "deltalake", "read_delta", "scan_delta"),
    simple("polars", "pyiceberg", "scan_iceberg"),
    simple("polars", "pandas + pyarrow", "to_pandas", reached="method"),
    simple("polars", "pyarrow", "to_arrow", "from_arrow", reached="method"),
    simple("polars", "pandas", "from_pandas"),
    simple("polars", "numpy", "to_numpy", "from_numpy", reached="method"),
    simple("polars", "altair", "plot.line", "plot.bar", "plot.scatter", "plot.point", "plot.kde", reached="method"),
    Trigger(
        "polars",
        ("read_excel", "read_ods"),
        (
            when("openpyxl", None, "engine", "openpyxl"),
            when("xlsx2csv", None, "engine", "xlsx2csv"),
            Case("fastexcel"),
        ),
    ),
    Trigger(
        "polars",
        ("read_database_uri",),
        (when("adbc_driver_manager", None, "engine", "adbc"), Case("connectorx")),
    ),
    Trigger("polars", ("write_database",), (Case("sqlalchemy + pandas"),), reached="method"),
    Trigger("polars", ("read_csv", "read_parquet", "read_ipc"), (when("pyarrow", None, "use_pyarrow", True),)),
    Trigger("polars", ("write_parquet", "write_ipc"), (when("pyarrow", None, "use_pyarrow", True),), reached="method"),
    simple("pyarrow", "pandas", "to_pandas", reached="method"),
    simple("pyarrow", "pandas", "from_pandas"),
    Trigger(
        "duckdb",
        (
            "df",
            "fetchdf",
            "fetch_df",
        ),
        (Case("pandas"),),
        reached="method",
        is_ambiguous=True,
    ),
    Trigger(
        "duckdb",
        (
            "arrow",
            "fetch_arrow_table",
        ),
        (Case("pyarrow"),),
        reached="method",
        is_ambiguous=True,
    ),
    Trigger("duckdb", ("pl",), (Case("polars + pyarrow"),), reached="method", is_ambiguous=True),
)

_XARRAY_ENGINES = (
    when("netCDF4", None, "engine", "netcdf4"),
    when("h5netcdf", None, "engine", "h5netcdf"),
    when("scipy", None, "engine", "scipy"),
    when("zarr", None, "engine", "zarr"),
    when("cfgrib", None, "engine", "cfgrib"),
    when("rioxarray", None, "engine", "rasterio"),
    when("pydap", None, "engine", "pydap"),
)

# Calendars that numpy and pandas cannot count in.
_CALENDARS = ("360_day", "365_day", "366_day", "noleap", "all_leap", "julian", "none")

_ARRAYS = (
    Trigger(
        "xarray",
        ("open_dataset", "load_dataset", "open_dataarray", "load_dataarray", "open_mfdataset", "open_datatree"),
        (
            *_XARRAY_ENGINES,
            ends("zarr", "filename_or_obj", ".zarr", ".zarr/"),
            ends("cfgrib", "filename_or_obj", ".grib", ".grib2", ".grb", ".grb2"),
            Case("netCDF4 | h5netcdf | scipy"),
        ),
    ),
    simple("xarray", "dask", "open_mfdataset"),
    simple("xarray", "zarr", "open_zarr"),
    simple("xarray", "zarr", "to_zarr", reached="method"),
    Trigger("xarray", ("to_netcdf",), (*_XARRAY_ENGINES, Case("netCDF4 | h5netcdf | scipy")), reached="method"),
    Trigger("xarray", ("open_dataset", "load_dataset"), (Case("dask", Given(None, "chunks")),)),
    Trigger("xarray", ("chunk",), (Case("dask"),), reached="method", is_ambiguous=True),
    simple("xarray", "matplotlib", "plot.surface", "plot.scatter", "plot.quiver", "plot.streamplot", reached="method"),
    simple("xarray", "scipy", "curvefit", reached="method"),
    Trigger(
        "xarray",
        ("interpolate_na",),
        (
            when("scipy", 1, "method", "nearest", "zero", "slinear", "quadratic", "cubic", "polynomial"),
            when("scipy", 1, "method", "barycentric", "krogh", "krog", "pchip", "spline", "akima", "makima"),
        ),
        reached="method",
    ),
    simple("xarray", "dask + pandas + pyarrow", "to_dask_dataframe", reached="method"),
    simple("xarray", "pooch", "tutorial.open_dataset", "tutorial.load_dataset"),
    simple("xarray", "cftime", "cftime_range", "CFTimeIndex"),
    Trigger("xarray", ("date_range", "date_range_like"), (when("cftime", None, "use_cftime", True),)),
    Trigger("xarray", ("date_range",), (when("cftime", None, "calendar", *_CALENDARS),)),
    Trigger("xarray", ("date_range_like",), (when("cftime", 1, "calendar", *_CALENDARS),)),
    Trigger("xarray", ("convert_calendar",), (when("cftime", 0, "calendar", *_CALENDARS),), reached="method"),
    Trigger("xarray", ("convert_calendar",), (when("cftime", None, "use_cftime", True),), reached="method"),
    Trigger(
        "xarray",
        ("open_dataset", "load_dataset", "open_dataarray", "open_mfdataset", "decode_cf", "CFDatetimeCoder"),
        (when("cftime", None, "use_cftime", True),),
    ),
    Trigger("xarray", ("interp", "interp_like"), (Case("scipy"),), reached="method", is_ambiguous=True),
    Trigger("xarray", ("rank",), (Case("bottleneck"),), reached="method", is_ambiguous=True),
    simple("xarray", "numbagg", "rolling_exp", reached="method"),
    Trigger("xarray", ("ffill", "bfill"), (Case("bottleneck | numbagg"),), reached="method", is_ambiguous=True),
    Trigger(
        "xarray",
        ("plot", *(f"plot.{kind}" for kind in ("line", "hist", "contour", "contourf", "imshow", "pcolormesh", "step"))),
        (Case("matplotlib"),),
        reached="method",
        is_ambiguous=True,
    ),
    simple("astropy", "pandas", "to_pandas", reached="method"),
    simple("astropy", "pandas", "from_pandas"),
    Trigger(
        "imageio",
        ("imread", "imwrite", "get_reader", "get_writer", "mimread", "mimwrite", "imiter", "imopen"),
        (
            Case("imageio_ffmpeg | av", Given(0, "uri", ends=(".mp4", ".avi", ".mov", ".mkv", ".webm"))),
            Case("tifffile", Given(0, "uri", ends=(".tif", ".tiff", ".stk", ".lsm"))),
        ),
    ),
    simple("skimage", "matplotlib", "io.imshow", "io.imshow_collection", "plot_matches", "plot_matched_features"),
    Trigger("tifffile", ("imwrite", "imsave"), (Case("imagecodecs", Given(None, "compression")),)),
)

FRAMES: tuple[Trigger, ...] = (*_PANDAS, *_OTHER_FRAMES, *_ARRAYS)
