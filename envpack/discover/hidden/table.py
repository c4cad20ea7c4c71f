"""The triggers that envpack knows: which uses of widely used libraries import what these do not require.

Written from knowledge of the libraries; some 45 of the uses have tests of their own. An entry that is wrong or missing
is corrected here, or added by users through the entry point group `envpack.triggers`. The file is long because it is
data: one entry a use, no logic.

Needs are modules, not distributions: whichever installed distribution owns the module is the answer (`psycopg2` may be
psycopg2-binary). A module that the others of its case require anyway is not listed (numpy beside scipy).
"""

from __future__ import annotations

from envpack.discover.hidden.triggers import Case, Given, Trigger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.hidden.triggers import Reached


def _simple(library: str, needs: str, *names: str, reached: Reached = "function") -> Trigger:
    """Return a trigger without conditions."""
    return Trigger(library, names, (Case(needs),), reached=reached)


def _imports(needs: str, *modules: str) -> Trigger:
    """Return a trigger for the import of modules."""
    return Trigger(modules[0].partition(".")[0], modules, (Case(needs),), reached="import")


def _when(needs: str, position: int | None, keyword: str, *values: object) -> Case:
    """Return a case for exact values of an argument."""
    return Case(needs, Given(position, keyword, values=values))


def _ends(needs: str, keyword: str, *ends: str, position: int = 0) -> Case:
    """Return a case for the ending of a path."""
    return Case(needs, Given(position, keyword, ends=ends))


def _starts(needs: str, position: int | None, keyword: str, *starts: str) -> Case:
    """Return a case for the beginning of a text."""
    return Case(needs, Given(position, keyword, starts=starts))


# Of what else has a protocol, urllib opens these.
_FSSPEC_ADDRESS = r"^(?!(?:https?|ftps?|file|rsync|sftp|svn)://)[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*(?:::|://)"


def _protocols(position: int | None, keyword: str) -> tuple[Case, ...]:
    """Return the cases for addresses that fsspec opens."""
    return (
        _starts("fsspec + s3fs", position, keyword, "s3://", "s3a://"),
        _starts("fsspec + gcsfs", position, keyword, "gs://", "gcs://"),
        _starts("fsspec + adlfs", position, keyword, "abfs://", "abfss://", "az://", "adl://"),
        _starts("fsspec + paramiko", position, keyword, "sftp://", "ssh://"),
        _starts("fsspec + huggingface_hub", position, keyword, "hf://"),
        _starts("fsspec + pyarrow", position, keyword, "hdfs://"),
        _starts("fsspec + smbprotocol", position, keyword, "smb://"),
        _starts("fsspec + requests", position, keyword, "github://", "webhdfs://"),
        Case("fsspec", Given(position, keyword, holds=(_FSSPEC_ADDRESS,))),
    )


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
    _when("openpyxl", None, "engine", "openpyxl"),
    _when("xlrd", None, "engine", "xlrd"),
    _when("odf", None, "engine", "odf"),
    _when("pyxlsb", None, "engine", "pyxlsb"),
    _when("python_calamine", None, "engine", "calamine"),
)
_EXCEL_WRITE_ENGINES = (
    _when("xlsxwriter", None, "engine", "xlsxwriter"),
    _when("openpyxl", None, "engine", "openpyxl"),
    _when("odf", None, "engine", "odf"),
)
_PARQUET_ENGINES = (
    _when("pyarrow", None, "engine", "pyarrow"),
    _when("fastparquet", None, "engine", "fastparquet"),
    Case("pyarrow | fastparquet"),
)

_PANDAS = (
    Trigger(
        "pandas",
        ("read_excel", "ExcelFile"),
        (
            *_EXCEL_READ_ENGINES,
            _ends("xlrd", "io", ".xls"),
            _ends("odf", "io", ".ods", ".odf", ".odt"),
            _ends("pyxlsb", "io", ".xlsb"),
            Case("openpyxl"),
        ),
    ),
    Trigger(
        "pandas",
        ("to_excel",),
        (
            *_EXCEL_WRITE_ENGINES,
            _ends("odf", "excel_writer", ".ods"),
            _ends("xlsxwriter | openpyxl", "excel_writer", ".xlsx"),
            _ends("openpyxl", "excel_writer", ".xlsm"),
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
            _when("xlsxwriter", 1, "engine", "xlsxwriter"),
            _when("openpyxl", 1, "engine", "openpyxl"),
            _when("odf", 1, "engine", "odf"),
            _when("openpyxl", None, "mode", "a"),
            _ends("odf", "path", ".ods"),
            Case("xlsxwriter | openpyxl"),
        ),
        sets="pandas excel writer",
    ),
    Trigger("pandas", ("read_parquet",), _PARQUET_ENGINES),
    Trigger("pandas", ("to_parquet",), _PARQUET_ENGINES, reached="method"),
    _simple("pandas", "pyarrow", "read_feather", "read_orc"),
    _simple("pandas", "pyarrow", "to_feather", "to_orc", reached="method"),
    _simple("pandas", "tables", "read_hdf", "HDFStore"),
    _simple("pandas", "tables", "to_hdf", reached="method"),
    _simple("pandas", "pyreadstat", "read_spss"),
    _simple("pandas", "pandas_gbq", "read_gbq"),
    _simple("pandas", "pandas_gbq", "to_gbq", reached="method"),
    _simple("pandas", "pyiceberg", "read_iceberg"),
    _simple("pandas", "xarray", "to_xarray", reached="method"),
    Trigger(
        "pandas",
        ("read_html",),
        (
            _when("lxml", None, "flavor", "lxml"),
            _when("html5lib + bs4", None, "flavor", "bs4", "html5lib"),
            Case("lxml | html5lib + bs4"),
        ),
    ),
    Trigger("pandas", ("read_xml",), (_when("", None, "parser", "etree"), Case("lxml"))),
    Trigger("pandas", ("to_xml",), (_when("", None, "parser", "etree"), Case("lxml")), reached="method"),
    Trigger(
        "pandas",
        ("read_sql", "read_sql_query", "read_sql_table"),
        (_starts("sqlalchemy", 1, "con", "sqlite:", "postgres", "mysql", "oracle", "mssql"), Case("sqlalchemy")),
        without=_DBAPI_MODULES,
    ),
    Trigger(
        "pandas",
        ("to_sql",),
        (_starts("sqlalchemy", 1, "con", "sqlite:", "postgres", "mysql", "oracle", "mssql"), Case("sqlalchemy")),
        reached="method",
        without=(*_DBAPI_MODULES, "polars"),
    ),
    _simple("pandas", "scipy", "sparse.to_coo", "sparse.from_spmatrix", reached="method"),
    _simple("pandas", "tabulate", "to_markdown", reached="method"),
    _simple("pandas", "jinja2", "to_latex", reached="method"),
    _simple("pandas", "jinja2", "io.formats.style.Styler"),
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
        (Case("plotly", Given(1, "val", values=("plotly",))), _when("hvplot", 1, "val", "hvplot", "holoviews")),
        sets="pandas plotting backend",
    ),
    Trigger(
        "pandas",
        ("options.plotting.backend",),
        (_when("plotly", 0, "", "plotly"), _when("hvplot", 0, "", "hvplot", "holoviews")),
        sets="pandas plotting backend",
    ),
    Trigger(
        "pandas",
        ("plot", "hist", "boxplot", *(f"plot.{kind}" for kind in ("line", "bar", "barh", "area", "pie", "scatter"))),
        (
            _when("plotly", None, "backend", "plotly"),
            _when("hvplot", None, "backend", "hvplot", "holoviews"),
            Case("matplotlib"),
        ),
        reached="method",
        is_ambiguous=True,
        unless_set="pandas plotting backend",
    ),
    _simple("pandas", "matplotlib", "scatter_matrix", "autocorrelation_plot", "parallel_coordinates", "radviz"),
    _simple("pandas", "matplotlib", "andrews_curves", "lag_plot", "bootstrap_plot"),
    _simple("pandas", "matplotlib + scipy", "plot.kde", "plot.density", reached="method"),
    Trigger(
        "pandas",
        ("plot",),
        (_when("scipy", None, "kind", "kde", "density"),),
        reached="method",
        is_ambiguous=True,
    ),
    Trigger("pandas", _PANDAS_READERS, _protocols(0, "filepath_or_buffer")),
    Trigger("pandas", _PANDAS_WRITERS, _protocols(0, "path_or_buf"), reached="method"),
    Trigger(
        "pandas",
        _PANDAS_READERS,
        (_when("zstandard", None, "compression", "zstd"), _ends("zstandard", "filepath_or_buffer", ".zst")),
    ),
    Trigger(
        "pandas",
        _PANDAS_WRITERS[:4],
        (_when("zstandard", None, "compression", "zstd"), _ends("zstandard", "path_or_buf", ".zst")),
        reached="method",
    ),
    Trigger("pandas", ("read_csv", "read_json"), (_when("pyarrow", None, "engine", "pyarrow"),)),
    Trigger("pandas", _PANDAS_READERS, (_when("pyarrow", None, "dtype_backend", "pyarrow"),)),
    Trigger("pandas", ("convert_dtypes",), (_when("pyarrow", None, "dtype_backend", "pyarrow"),), reached="method"),
    Trigger("pandas", ("ArrowDtype",), (Case("pyarrow"),)),
    Trigger(
        "pandas",
        ("astype", "Series", "array", "DataFrame"),
        tuple(Case("pyarrow", Given(position, "dtype", ends=("[pyarrow]",))) for position in (0, 1, 2)),
        reached="method",
    ),
    Trigger("pandas", ("eval", "query"), (_when("numexpr", None, "engine", "numexpr"),), reached="method"),
    Trigger(
        "pandas",
        ("apply", "aggregate", "agg", "transform", "mean", "sum", "std", "var"),
        (_when("numba", None, "engine", "numba"),),
        reached="method",
    ),
    Trigger(
        "pandas",
        ("interpolate",),
        (
            _when(
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
    Trigger("pandas", ("corr", "corrwith"), (_when("scipy", None, "method", "kendall"),), reached="method"),
)

_OTHER_FRAMES = (
    _simple("geopandas", "pyarrow", "read_parquet", "read_feather"),
    Trigger("geopandas", ("plot",), (Case("matplotlib"),), reached="method", is_ambiguous=True),
    Trigger("geopandas", ("explore",), (Case("folium"),), reached="method", is_ambiguous=True),
    _imports("pandas + pyarrow", "dask.dataframe"),
    _imports("numpy", "dask.array"),
    _imports("distributed", "dask.distributed"),
    _imports("scipy", "dask.array.stats"),
    _simple("dask", "scipy", "array.linalg.lu", "array.linalg.solve", "array.linalg.inv"),
    _simple("dask", "pandas + pyarrow", "to_dataframe", reached="method"),
    _simple("dask", "pandas + pyarrow", "datasets.timeseries"),
    Trigger("dask", ("diagnostics.ResourceProfiler",), (Case("psutil"),)),
    _simple("dask", "bokeh", "diagnostics.visualize", "profile_visualize.visualize"),
    Trigger("dask", ("visualize",), (Case("graphviz"),), reached="method", is_ambiguous=True),
    Trigger(
        "dask",
        ("read_csv", "read_parquet", "read_json", "read_text", "from_zarr"),
        _protocols(0, "path"),
    ),
    _simple("polars", "xlsxwriter", "write_excel", reached="method"),
    _simple("polars", "deltalake", "write_delta", reached="method"),
    _simple("polars", "deltalake", "read_delta", "scan_delta"),
    _simple("polars", "pyiceberg", "scan_iceberg"),
    _simple("polars", "pandas + pyarrow", "to_pandas", reached="method"),
    _simple("polars", "pyarrow", "to_arrow", "from_arrow", reached="method"),
    _simple("polars", "pandas", "from_pandas"),
    _simple("polars", "numpy", "to_numpy", "from_numpy", reached="method"),
    _simple("polars", "altair", "plot.line", "plot.bar", "plot.scatter", "plot.point", "plot.kde", reached="method"),
    Trigger(
        "polars",
        ("read_excel", "read_ods"),
        (
            _when("openpyxl", None, "engine", "openpyxl"),
            _when("xlsx2csv", None, "engine", "xlsx2csv"),
            Case("fastexcel"),
        ),
    ),
    Trigger(
        "polars",
        ("read_database_uri",),
        (_when("adbc_driver_manager", None, "engine", "adbc"), Case("connectorx")),
    ),
    Trigger("polars", ("write_database",), (Case("sqlalchemy + pandas"),), reached="method"),
    Trigger("polars", ("read_csv", "read_parquet", "read_ipc"), (_when("pyarrow", None, "use_pyarrow", True),)),
    Trigger("polars", ("write_parquet", "write_ipc"), (_when("pyarrow", None, "use_pyarrow", True),), reached="method"),
    _simple("pyarrow", "pandas", "to_pandas", reached="method"),
    _simple("pyarrow", "pandas", "from_pandas"),
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
    _when("netCDF4", None, "engine", "netcdf4"),
    _when("h5netcdf", None, "engine", "h5netcdf"),
    _when("scipy", None, "engine", "scipy"),
    _when("zarr", None, "engine", "zarr"),
    _when("cfgrib", None, "engine", "cfgrib"),
    _when("rioxarray", None, "engine", "rasterio"),
    _when("pydap", None, "engine", "pydap"),
)

# Calendars that numpy and pandas cannot count in.
_CALENDARS = ("360_day", "365_day", "366_day", "noleap", "all_leap", "julian", "none")

_ARRAYS = (
    Trigger(
        "xarray",
        ("open_dataset", "load_dataset", "open_dataarray", "load_dataarray", "open_mfdataset", "open_datatree"),
        (
            *_XARRAY_ENGINES,
            _ends("zarr", "filename_or_obj", ".zarr", ".zarr/"),
            _ends("cfgrib", "filename_or_obj", ".grib", ".grib2", ".grb", ".grb2"),
            Case("netCDF4 | h5netcdf | scipy"),
        ),
    ),
    _simple("xarray", "dask", "open_mfdataset"),
    _simple("xarray", "zarr", "open_zarr"),
    _simple("xarray", "zarr", "to_zarr", reached="method"),
    Trigger("xarray", ("to_netcdf",), (*_XARRAY_ENGINES, Case("netCDF4 | h5netcdf | scipy")), reached="method"),
    Trigger("xarray", ("open_dataset", "load_dataset"), (Case("dask", Given(None, "chunks")),)),
    Trigger("xarray", ("chunk",), (Case("dask"),), reached="method", is_ambiguous=True),
    _simple("xarray", "matplotlib", "plot.surface", "plot.scatter", "plot.quiver", "plot.streamplot", reached="method"),
    _simple("xarray", "scipy", "curvefit", reached="method"),
    Trigger(
        "xarray",
        ("interpolate_na",),
        (
            _when("scipy", 1, "method", "nearest", "zero", "slinear", "quadratic", "cubic", "polynomial"),
            _when("scipy", 1, "method", "barycentric", "krogh", "krog", "pchip", "spline", "akima", "makima"),
        ),
        reached="method",
    ),
    _simple("xarray", "dask + pandas + pyarrow", "to_dask_dataframe", reached="method"),
    _simple("xarray", "pooch", "tutorial.open_dataset", "tutorial.load_dataset"),
    _simple("xarray", "cftime", "cftime_range", "CFTimeIndex"),
    Trigger("xarray", ("date_range", "date_range_like"), (_when("cftime", None, "use_cftime", True),)),
    Trigger("xarray", ("date_range",), (_when("cftime", None, "calendar", *_CALENDARS),)),
    Trigger("xarray", ("date_range_like",), (_when("cftime", 1, "calendar", *_CALENDARS),)),
    Trigger("xarray", ("convert_calendar",), (_when("cftime", 0, "calendar", *_CALENDARS),), reached="method"),
    Trigger("xarray", ("convert_calendar",), (_when("cftime", None, "use_cftime", True),), reached="method"),
    Trigger(
        "xarray",
        ("open_dataset", "load_dataset", "open_dataarray", "open_mfdataset", "decode_cf", "CFDatetimeCoder"),
        (_when("cftime", None, "use_cftime", True),),
    ),
    Trigger("xarray", ("interp", "interp_like"), (Case("scipy"),), reached="method", is_ambiguous=True),
    Trigger("xarray", ("rank",), (Case("bottleneck"),), reached="method", is_ambiguous=True),
    _simple("xarray", "numbagg", "rolling_exp", reached="method"),
    Trigger("xarray", ("ffill", "bfill"), (Case("bottleneck | numbagg"),), reached="method", is_ambiguous=True),
    Trigger(
        "xarray",
        ("plot", *(f"plot.{kind}" for kind in ("line", "hist", "contour", "contourf", "imshow", "pcolormesh", "step"))),
        (Case("matplotlib"),),
        reached="method",
        is_ambiguous=True,
    ),
    _simple("astropy", "pandas", "to_pandas", reached="method"),
    _simple("astropy", "pandas", "from_pandas"),
    Trigger(
        "imageio",
        ("imread", "imwrite", "get_reader", "get_writer", "mimread", "mimwrite", "imiter", "imopen"),
        (
            Case("imageio_ffmpeg | av", Given(0, "uri", ends=(".mp4", ".avi", ".mov", ".mkv", ".webm"))),
            Case("tifffile", Given(0, "uri", ends=(".tif", ".tiff", ".stk", ".lsm"))),
        ),
    ),
    _simple("skimage", "matplotlib", "io.imshow", "io.imshow_collection", "plot_matches", "plot_matched_features"),
    Trigger("tifffile", ("imwrite", "imsave"), (Case("imagecodecs", Given(None, "compression")),)),
)

_COSMOLOGY = (
    *("luminosity_distance", "comoving_distance", "comoving_transverse_distance", "angular_diameter_distance"),
    *("angular_diameter_distance_z1z2", "lookback_time", "lookback_distance", "absorption_distance", "distmod"),
    *("comoving_volume", "arcsec_per_kpc_proper", "arcsec_per_kpc_comoving", "kpc_proper_per_arcmin"),
    *("kpc_comoving_per_arcmin", "lookback_time_integrand"),
)

_SKY = (
    _simple("astropy", "scipy", "match_to_catalog_sky", "match_to_catalog_3d", reached="method"),
    _simple("astropy", "scipy", "search_around_sky", "search_around_3d", reached="method"),
    _simple("astropy", "scipy", "match_coordinates_sky", "match_coordinates_3d", "fit_wcs_from_points"),
    _simple("astropy", "scipy", *_COSMOLOGY, reached="method"),
    Trigger("astropy", ("age",), (Case("scipy"),), reached="method", is_ambiguous=True),
    _simple("astropy", "scipy", "z_at_value", "Sersic1D", "Sersic2D", "AiryDisk2D", "Tabular1D", "Tabular2D"),
    _simple("astropy", "scipy", "tabular_model", "Spline1D", "SplineInterpolateFitter", "SplineSmoothingFitter"),
    _simple("astropy", "scipy", "TRFLSQFitter", "LMLSQFitter", "DogBoxLSQFitter", "LevMarLSQFitter", "SLSQPLSQFitter"),
    _simple("astropy", "scipy", "SimplexLSQFitter", "JointFitter"),
    _simple("astropy", "scipy", "false_alarm_probability", "false_alarm_level", reached="method"),
    _simple("astropy", "scipy", "binom_conf_interval", "binned_binom_proportion", "jackknife_stats", "vtest"),
    _simple("astropy", "scipy", "knuth_bin_width", "kuiper_two", "kuiper_false_positive_probability"),
    Trigger("astropy", ("stats.histogram", "calculate_bin_edges"), (_when("scipy", 1, "bins", "knuth"),)),
    Trigger("astropy", ("poisson_conf_interval",), (_when("scipy | mpmath", 1, "interval", "kraft-burrows-nousek"),)),
    _simple("astropy", "matplotlib", "quantity_support", "time_support", "visualization.hist", "simple_norm"),
    _simple("astropy", "matplotlib", "ImageNormalize", "imshow_norm", "SimpleNorm", reached="function"),
    _imports("matplotlib", "astropy.visualization.wcsaxes"),
    Trigger("astropy", ("make_lupton_rgb", "make_rgb"), (Case("PIL", Given(None, "filename")),)),
    Trigger("astropy", ("solar_system_ephemeris.set",), (_when("", 0, "value", "builtin", "erfa"), Case("jplephem"))),
    _simple("astropy", "dask", "parallel_fit_dask"),
    _simple("astropy", "pandas", "to_pandas", reached="method"),
    _simple("astropy", "pandas", "from_pandas"),
    _simple("astropy", "narwhals", "to_df", "from_df", reached="method"),
    Trigger("astropy", ("to_df",), (_when("pandas", 0, "backend", "pandas"),), reached="method"),
    Trigger("astropy", ("to_df",), (_when("polars", 0, "backend", "polars"),), reached="method"),
    _simple("astropy", "sortedcontainers", "soco.SCEngine", "table.SCEngine"),
    Trigger(
        "astropy",
        ("read", "write"),
        (
            _when("h5py", None, "format", "hdf5"),
            _when("pyarrow", None, "format", "parquet", "parquet.votable", "pyarrow.csv"),
            _when("bs4", None, "format", "ascii.html", "html"),
            Case("pandas", Given(None, "format", starts=("pandas.",))),
            _when("", None, "format", "fits", "votable", "ascii.ecsv"),
            _ends("h5py", "output", ".hdf5", ".h5"),
            _ends("pyarrow", "output", ".parquet"),
        ),
        reached="method",
    ),
)

_BIOLOGY = (
    _simple("Bio", "matplotlib", "Phylo.draw"),
    _simple("Bio", "networkx", "Phylo.to_networkx"),
    _simple("Bio", "igraph", "Phylo.to_igraph"),
    _imports("reportlab", "Bio.Graphics"),
    _imports("PIL", "Bio.Graphics.KGML_vis"),
    _imports("msgpack", "Bio.PDB.binary_cif"),
    _imports("mmtf", "Bio.PDB.mmtf"),
    _imports("scipy", "Bio.phenotype.pm_fitting"),
    _imports("MySQLdb", "Bio.motifs.jaspar.db"),
    Trigger("Bio", ("calculate_dn_ds", "calculate_dn_ds_matrix"), (_when("scipy", None, "method", "ML", "YN00"),)),
    Trigger("Bio", ("cal_dn_ds",), (_when("scipy", 2, "method", "ML", "YN00"),)),
)

_SPLINES = Case("scipy", Given(0, "formula_like", holds=(r"\b(bs|cr)\(",)))
_FORMULAS = (
    Trigger("patsy", ("dmatrix", "dmatrices"), (_when("pandas", None, "return_type", "dataframe"),)),
    Trigger("patsy", ("build_design_matrices",), (_when("pandas", None, "return_type", "dataframe"),)),
    Trigger("patsy", ("dmatrix", "dmatrices", "incr_dbuilder"), (_SPLINES,)),
    _simple("patsy", "scipy", "patsy.bs", "patsy.cr"),
)

_BLAS = (
    *(f"linalg.{name}" for name in ("inv", "solve", "det", "slogdet", "eig", "eigh", "eigvals", "eigvalsh", "svd")),
    *(f"linalg.{name}" for name in ("qr", "cholesky", "lstsq", "pinv", "norm", "cond", "matrix_rank", "matrix_power")),
    *("numpy.dot", "numpy.vdot", "numpy.roots", "numpy.cov", "numpy.corrcoef"),
)
_COMPILED = tuple(
    f"numba.{name}" for name in ("njit", "jit", "vectorize", "guvectorize", "stencil", "generated_jit", "cfunc")
)
_COMPILING = (Trigger("numpy", _BLAS, (Case("scipy"),), inside=_COMPILED),)

_STANDARD = (
    Trigger(
        "zoneinfo",
        ("reset_tzpath",),
        # With no folder to search there is only the data that a distribution brings.
        (_when("tzdata", 0, "to", ()),),
    ),
)

_SERVICES = (
    _imports("requests", "google.auth.transport.requests", "google.auth.compute_engine"),
    _imports("urllib3", "google.auth.transport.urllib3"),
    _imports("grpc", "google.auth.transport.grpc"),
    _imports("aiohttp", "google.auth.transport._aiohttp_requests", "google.auth.aio.transport.aiohttp"),
    Trigger("flask", ("run",), (_when("cryptography", None, "ssl_context", "adhoc"),), reached="method"),
    Trigger("werkzeug", ("run_simple",), (_when("cryptography", None, "ssl_context", "adhoc"),)),
    _simple("werkzeug", "cryptography", "make_ssl_devcert", "generate_adhoc_ssl_context"),
)

_NX_SCIPY = (
    *("birank", "spectral_bipartivity", "laplacian_centrality", "subgraph_centrality_exp", "number_of_walks"),
    *("harmonic_function", "local_and_global_consistency", "optimal_edit_paths", "graph_edit_distance"),
    *("optimize_graph_edit_distance", "optimize_edit_paths", "panther_vector_similarity", "is_regular_expander"),
    *("random_regular_expander_graph", "random_spanning_tree", "asadpour_atsp", "held_karp_ascent"),
    *("pagerank", "hits", "laplacian_matrix", "normalized_laplacian_matrix", "directed_laplacian_matrix"),
    *("directed_combinatorial_laplacian_matrix", "adjacency_matrix", "incidence_matrix", "bethe_hessian_matrix"),
    *("modularity_matrix", "directed_modularity_matrix", "modularity_spectrum", "laplacian_spectrum"),
    *("normalized_laplacian_spectrum", "adjacency_spectrum", "bethe_hessian_spectrum", "total_spanning_tree_weight"),
    *("algebraic_connectivity", "fiedler_vector", "spectral_ordering", "spectral_bisection", "spectral_graph_forge"),
    *("kamada_kawai_layout", "eigenvector_centrality_numpy", "communicability_exp", "second_order_centrality"),
    *("current_flow_closeness_centrality", "information_centrality", "current_flow_betweenness_centrality"),
    *("current_flow_betweenness_centrality_subset", "edge_current_flow_betweenness_centrality"),
    *("edge_current_flow_betweenness_centrality_subset", "approximate_current_flow_betweenness_centrality"),
    *("resistance_distance", "effective_graph_resistance", "kemeny_constant", "number_of_spanning_trees"),
    *(
        "to_scipy_sparse_array",
        "from_scipy_sparse_array",
        "attr_sparse_matrix",
        "trophic_levels",
        "trophic_differences",
    ),
    *("trophic_incoherence_parameter", "degree_pearson_correlation_coefficient", "biadjacency_matrix"),
    *("from_biadjacency_matrix", "minimum_weight_full_matching", "non_randomness", "soft_random_geometric_graph"),
    *("katz_centrality_numpy", "estrada_index"),
)
_NX_NUMPY = (
    *("omega", "sigma", "lattice_reference", "maybe_regular_expander", "maybe_regular_expander_graph"),
    *("spectral_modularity_bipartition",),
    *("google_matrix", "simrank_similarity", "panther_similarity", "floyd_warshall_numpy", "attr_matrix"),
    *(
        "to_numpy_array",
        "from_numpy_array",
        "subgraph_centrality",
        "communicability",
        "communicability_betweenness_centrality",
    ),
    *("spring_layout", "fruchterman_reingold_layout", "circular_layout", "random_layout", "shell_layout"),
    *("spiral_layout", "spectral_layout", "planar_layout", "bipartite_layout", "multipartite_layout", "bfs_layout"),
    *("arf_layout", "forceatlas2_layout", "rescale_layout", "degree_assortativity_coefficient"),
    *("attribute_assortativity_coefficient", "numeric_assortativity_coefficient", "generate_random_paths"),
)
_NX_DRAW = (
    *("draw", "draw_networkx", "draw_networkx_nodes", "draw_networkx_edges", "draw_networkx_labels"),
    *("draw_networkx_edge_labels", "draw_circular", "draw_planar", "draw_random", "draw_shell", "draw_spring"),
    *("draw_bipartite", "draw_forceatlas2", "display"),
)

_GRAPHS = (
    _simple("networkx", "scipy", *_NX_SCIPY),
    _simple("networkx", "numpy", *_NX_NUMPY),
    _simple("networkx", "matplotlib", *_NX_DRAW),
    _simple("networkx", "matplotlib + scipy", "draw_kamada_kawai"),
    _simple("networkx", "matplotlib + numpy", "draw_spectral"),
    _simple("networkx", "pandas", "from_pandas_edgelist", "to_pandas_edgelist", "from_pandas_adjacency"),
    _simple("networkx", "pandas", "to_pandas_adjacency"),
    _simple("networkx", "pygraphviz", "graphviz_layout", "to_agraph", "from_agraph", "write_dot", "read_dot"),
    _simple("networkx", "pydot", "nx_pydot.to_pydot", "pydot_layout", "nx_pydot.graphviz_layout"),
    _simple("networkx", "pandas", "prominent_group"),
    Trigger("networkx", ("clustering", "average_clustering"), (Case("numpy", Given(2, "weight")),)),
    Trigger("networkx", ("densest_subgraph",), (_when("numpy", None, "method", "fista"),)),
    Trigger("networkx", ("spring_layout",), (_when("scipy", None, "method", "energy"),)),
    _simple("networkx", "sympy", "tutte_polynomial", "chromatic_polynomial"),
    _simple("networkx", "lxml", "write_graphml_lxml"),
)

_MARKUP = (
    Trigger(
        "bs4",
        ("BeautifulSoup",),
        (
            _when("lxml", 1, "features", "lxml", "xml", "lxml-xml", "lxml-html"),
            _when("html5lib", 1, "features", "html5lib", "html5"),
            _when("", 1, "features", "html.parser", "html"),
        ),
    ),
    Trigger("html5lib", ("html5lib.parse",), (_when("lxml", 1, "treebuilder", "lxml"),)),
    Trigger("html5lib", ("parseFragment",), (_when("lxml", 2, "treebuilder", "lxml"),)),
    Trigger("html5lib", ("getTreeBuilder",), (_when("lxml", 0, "treeType", "lxml"),)),
    Trigger("html5lib", ("getTreeWalker",), (_when("lxml", 0, "treeType", "lxml"),)),
    Trigger("html5lib", ("html5lib.serialize",), (_when("lxml", 1, "tree", "lxml"),)),
    _imports("html5lib", "lxml.html.html5parser"),
    _imports("bs4", "lxml.html.soupparser"),
    _imports("lxml_html_clean", "lxml.html.clean"),
    _simple("openpyxl", "PIL", "drawing.image.Image"),
    _imports("numpy", "openpyxl.utils.dataframe"),
    Trigger("markdown", ("markdown", "Markdown"), (_when("pygments", None, "extensions", "codehilite"),)),
    _simple("lxml", "cssselect", "cssselect", "CSSSelector", reached="method"),
    _simple("lxml", "bs4", "soupparser.fromstring", "soupparser.parse"),
)

_CHARTS = tuple(
    f"express.{name}"
    for name in (
        *("scatter", "line", "area", "bar", "histogram", "pie", "box", "violin", "strip", "ecdf", "funnel"),
        *("funnel_area", "timeline", "treemap", "sunburst", "icicle", "density_heatmap", "density_contour"),
        *("density_map", "density_mapbox", "scatter_3d", "line_3d", "scatter_matrix", "parallel_coordinates"),
        *("parallel_categories", "scatter_polar", "line_polar", "bar_polar", "scatter_ternary", "line_ternary"),
        *("scatter_geo", "line_geo", "choropleth", "choropleth_map", "choropleth_mapbox", "scatter_map"),
        *("scatter_mapbox", "line_map", "line_mapbox"),
    )
)

_PLOTTING = (
    Trigger(
        "matplotlib",
        ("use", "switch_backend", "rcParams[backend]"),
        (
            _when("PyQt6 | PySide6 | PyQt5 | PySide2", 0, "backend", "QtAgg", "qtagg", "QtCairo", "qtcairo"),
            _when("PyQt5 | PySide2", 0, "backend", "Qt5Agg", "qt5agg", "Qt5Cairo", "qt5cairo"),
            _when("gi", 0, "backend", "GTK3Agg", "gtk3agg", "GTK4Agg", "gtk4agg"),
            _when("gi + cairo", 0, "backend", "GTK3Cairo", "gtk3cairo", "GTK4Cairo", "gtk4cairo"),
            _when("wx", 0, "backend", "WXAgg", "wxagg", "WX", "wx"),
            _when("cairocffi | cairo", 0, "backend", "cairo"),
            _when("tornado", 0, "backend", "WebAgg", "webagg"),
            _when("ipympl", 0, "backend", "widget", "ipympl", "module://ipympl.backend_nbagg"),
        ),
    ),
    _simple("plotly", "kaleido", "write_image", "to_image", "write_images", reached="method"),
    _imports("numpy", "plotly.express", "plotly.figure_factory"),
    # A table that is given is of a library that the program imports; lists are put into one of pandas.
    Trigger("plotly", _CHARTS, (Case("", Given(0, "data_frame")), Case("pandas"))),
    Trigger("plotly", ("scatter",), (Case("statsmodels", Given(None, "trendline", ("ols", "lowess"))),)),
    _simple("plotly", "scipy", "create_distplot", "create_dendrogram", "create_trisurf", "create_ternary_contour"),
    _simple("plotly", "skimage", "create_ternary_contour"),
    _simple("plotly", "pandas", "create_hexbin_map"),
    _simple("tifffile", "matplotlib", "tifffile.imshow"),
    _simple("mpmath", "matplotlib", "mpmath.plot", "mpmath.cplot", "mpmath.splot"),
    _simple("pyparsing", "railroad + jinja2", "create_diagram", reached="method"),
    _simple("scipy", "pooch", "datasets.face", "datasets.ascent", "datasets.electrocardiogram"),
    _simple("plotly", "anywidget", "FigureWidget"),
    _simple("plotly", "pandas", "data.iris", "data.gapminder", "data.tips", "data.stocks", "data.medals_long"),
    _simple("seaborn", "scipy", "clustermap"),
    Trigger("seaborn", ("kdeplot",), (_when("scipy", None, "cumulative", True),)),
    Trigger("seaborn", ("regplot", "lmplot"), tuple(_when("statsmodels", None, k, True) for k in ("lowess", "robust"))),
    Trigger("seaborn", ("regplot", "lmplot", "residplot"), (_when("statsmodels", None, "logistic", True),)),
    Trigger("seaborn", ("residplot",), (_when("statsmodels", None, "lowess", True),)),
    Trigger("bokeh", ("export_png", "export_svg", "export_svgs", "get_screenshot_as_png"), (Case("selenium"),)),
    _simple("bokeh", "pandas", "sampledata.download"),
    _simple("statsmodels", "matplotlib", "plot_acf", "plot_pacf", "qqplot", "plot_fit", "influence_plot", "month_plot"),
    _simple("statsmodels", "matplotlib", "plot_regress_exog", "plot_partregress_grid", "interaction_plot", "mosaic"),
    _simple("statsmodels", "matplotlib", "plot_diagnostics", "plot_ccpr", "seasonal_plot", "quarter_plot"),
    _simple("statsmodels", "matplotlib", "abline_plot", "plot_ccpr_grid", "plot_partregress", "plot_ceres_residuals"),
    _simple("statsmodels", "matplotlib", "plot_leverage_resid2", "plot_added_variable", "rainbowplot", "fboxplot"),
    _simple("statsmodels", "matplotlib", "violinplot", "beanplot", "dot_plot", "plot_corr", "plot_corr_grid", "qqline"),
    _simple("statsmodels", "matplotlib", "scatter_ellipse", "mean_diff_plot", "qqplot_2samples", "plot_ccf"),
    _simple("statsmodels", "matplotlib", "plot_diagnostics", "plot_simultaneous", "plot_components", reached="method"),
    Trigger("statsmodels", ("plot_predict",), (Case("matplotlib"),), reached="method", is_ambiguous=True),
    _simple("scipy", "matplotlib", "voronoi_plot_2d", "delaunay_plot_2d", "convex_hull_plot_2d"),
    Trigger("scipy", ("dendrogram",), (_when("", None, "no_plot", True), Case("matplotlib"))),
)

_DISPLAYS = (
    *("ConfusionMatrixDisplay", "RocCurveDisplay", "PrecisionRecallDisplay", "DetCurveDisplay"),
    *("PredictionErrorDisplay", "LearningCurveDisplay", "ValidationCurveDisplay", "CalibrationDisplay"),
    *("PartialDependenceDisplay", "DecisionBoundaryDisplay"),
)
_DISPLAYING = ("metrics", "model_selection", "calibration", "inspection")

_LEARNING = (
    Trigger(
        "sklearn",
        ("set_config", "config_context"),
        (_when("pandas", None, "transform_output", "pandas"), _when("polars", None, "transform_output", "polars")),
    ),
    Trigger(
        "sklearn",
        ("set_output",),
        (_when("pandas", None, "transform", "pandas"), _when("polars", None, "transform", "polars")),
        reached="method",
    ),
    Trigger(
        "sklearn",
        (
            *("load_iris", "load_digits", "load_wine", "load_diabetes", "load_breast_cancer", "load_linnerud"),
            *("fetch_california_housing", "fetch_covtype", "fetch_kddcup99", "fetch_20newsgroups_vectorized"),
        ),
        (_when("pandas", None, "as_frame", True),),
    ),
    Trigger("sklearn", ("fetch_openml",), (_when("", None, "as_frame", False), Case("pandas"))),
    _simple("sklearn", "matplotlib", "plot_tree"),
    _simple("sklearn", "matplotlib", *(f"{module}.{display}" for display in _DISPLAYS for module in _DISPLAYING)),
    _simple(
        "sklearn",
        "matplotlib",
        *(
            f"{display}.{maker}"
            for display in _DISPLAYS
            for maker in ("from_estimator", "from_predictions", "from_cv_results")
        ),
    ),
    Trigger(
        "joblib",
        ("parallel_backend", "parallel_config"),
        (_when("distributed", 0, "backend", "dask"), _when("ray", 0, "backend", "ray")),
    ),
    Trigger("joblib", ("Parallel",), (_when("distributed", None, "backend", "dask"),)),
    Trigger("joblib", ("dump",), (_when("lz4", 2, "compress", "lz4"), _ends("lz4", "filename", ".lz4", position=1))),
    Trigger("joblib", ("load",), (_ends("lz4", "filename", ".lz4"),)),
    _simple("sklearn", "PIL", "load_sample_image", "load_sample_images", "fetch_lfw_people", "fetch_lfw_pairs"),
    _simple("skimage", "matplotlib", "try_all_threshold", "show_rag", "rectangle_perimeter", "polygon_perimeter"),
    _simple("skimage", "sklearn", "learn_gmm", "fisher_vector"),
    _simple("skimage", "dask", "apply_parallel", "cycle_spin"),
    _simple("skimage", "pywt", "denoise_wavelet", "estimate_sigma"),
    Trigger("sympy", ("jn_zeros",), (_when("scipy", None, "method", "scipy"),)),
    Trigger("sympy", ("stats.sample", "stats.sample_iter"), (_when("numpy", None, "library", "numpy"), Case("scipy"))),
    Trigger(
        "sympy",
        ("lambdify",),
        (
            _when("numpy", 2, "modules", "numpy"),
            _when("scipy", 2, "modules", "scipy"),
            _when("numexpr", 2, "modules", "numexpr"),
            _when("tensorflow", 2, "modules", "tensorflow"),
            _when("cupy", 2, "modules", "cupy"),
            _when("jax", 2, "modules", "jax"),
            _when("torch", 2, "modules", "torch"),
        ),
    ),
    _simple("sympy", "numpy", "ufuncify", "matrix2numpy", "list2numpy", "symarray"),
    _simple("sympy", "matplotlib", "plot", "plot3d", "plot_implicit", "plot_parametric", "plot3d_parametric_line"),
    _simple("sympy", "antlr4", "parse_latex"),
    Trigger("torch", ("onnx.export",), (Case("onnx"),)),
    _imports("tensorboard", "torch.utils.tensorboard"),
    Trigger("transformers", ("from_pretrained",), (Case("accelerate", Given(None, "device_map")),)),
    _simple("xgboost", "matplotlib", "plot_importance", "plot_tree"),
    _simple("lightgbm", "matplotlib", "plot_importance", "plot_metric", "plot_tree"),
)

_STORAGE_AND_NETWORK = (
    Trigger(
        "fsspec",
        ("open", "open_files", "open_local", "get_mapper", "url_to_fs", "core.url_to_fs"),
        (
            *_protocols(0, "urlpath"),
            _starts("aiohttp", 0, "urlpath", "http://", "https://"),
        ),
    ),
    Trigger(
        "fsspec",
        ("filesystem", "get_filesystem_class"),
        (
            _when("s3fs", 0, "protocol", "s3", "s3a"),
            _when("gcsfs", 0, "protocol", "gs", "gcs"),
            _when("adlfs", 0, "protocol", "abfs", "abfss", "az", "adl"),
            _when("aiohttp", 0, "protocol", "http", "https"),
            _when("paramiko", 0, "protocol", "sftp", "ssh"),
            _when("huggingface_hub", 0, "protocol", "hf"),
            _when("pyarrow", 0, "protocol", "hdfs", "arrow_hdfs"),
            _when("smbprotocol", 0, "protocol", "smb"),
            _when("requests", 0, "protocol", "github", "webhdfs", "databricks", "dbfs"),
            _when("git", 0, "protocol", "git"),
            _when("libarchive", 0, "protocol", "libarchive"),
            _when("distributed", 0, "protocol", "dask"),
        ),
    ),
    Trigger(
        "fsspec",
        ("open", "open_files"),
        (
            _when("zstandard", None, "compression", "zstd"),
            _when("lz4", None, "compression", "lz4"),
            _when("snappy", None, "compression", "snappy"),
        ),
    ),
    Trigger(
        "httpx", ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"), (_when("h2", None, "http2", True),)
    ),
    Trigger("httpx", ("Client", "AsyncClient"), (_starts("socksio", None, "proxy", "socks"),)),
    Trigger("httpcore", ("ConnectionPool", "AsyncConnectionPool"), (_when("h2", None, "http2", True),)),
    Trigger(
        "requests",
        ("get", "post", "put", "patch", "delete", "head", "options", "request"),
        (_starts("socks", None, "proxies", "socks"),),
        reached="method",
    ),
    Trigger("requests", ("proxies", "proxies.update"), (_starts("socks", 0, "", "socks"),), reached="method"),
    _simple("urllib3", "socks", "SOCKSProxyManager"),
    Trigger(
        "sqlalchemy",
        ("create_engine", "create_async_engine", "engine_from_config"),
        (
            _starts("asyncpg", 0, "url", "postgresql+asyncpg:"),
            _starts("psycopg", 0, "url", "postgresql+psycopg:", "postgresql+psycopg_async:"),
            _starts("pg8000", 0, "url", "postgresql+pg8000:"),
            _starts("psycopg2", 0, "url", "postgresql:", "postgresql+psycopg2:"),
            _starts("pymysql", 0, "url", "mysql+pymysql:", "mariadb+pymysql:"),
            _starts("mysql.connector", 0, "url", "mysql+mysqlconnector:", "mariadb+mysqlconnector:"),
            _starts("aiomysql", 0, "url", "mysql+aiomysql:"),
            _starts("asyncmy", 0, "url", "mysql+asyncmy:"),
            _starts("MySQLdb", 0, "url", "mysql:", "mariadb:", "mysql+mysqldb:"),
            _starts("mariadb", 0, "url", "mariadb+mariadbconnector:"),
            _starts("oracledb", 0, "url", "oracle+oracledb:"),
            _starts("oracledb | cx_Oracle", 0, "url", "oracle:"),
            _starts("pymssql", 0, "url", "mssql+pymssql:"),
            _starts("pyodbc", 0, "url", "mssql:", "mssql+pyodbc:"),
            _starts("aiosqlite", 0, "url", "sqlite+aiosqlite:"),
            _starts("duckdb_engine", 0, "url", "duckdb:"),
        ),
    ),
    _imports("greenlet", "sqlalchemy.ext.asyncio"),
    _simple("pydantic", "email_validator", "EmailStr", "NameEmail", "validate_email"),
    _simple("fastapi", "multipart | python_multipart", "Form", "File"),
    _imports("httpx", "fastapi.testclient", "starlette.testclient"),
    _imports("jinja2", "fastapi.templating", "starlette.templating"),
    _imports("itsdangerous", "starlette.middleware.sessions"),
    _imports("ipywidgets", "tqdm.notebook"),
    Trigger("celery", ("Celery",), (_starts("redis", None, "broker", "redis:", "rediss:"),)),
    Trigger("celery", ("Celery",), (_starts("redis", None, "backend", "redis:", "rediss:"),)),
    Trigger(
        "jwt",
        ("encode",),
        (
            _when(
                "cryptography", 2, "algorithm", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "PS256"
            ),
        ),
    ),
)

TRIGGERS: tuple[Trigger, ...] = (
    *_PANDAS,
    *_OTHER_FRAMES,
    *_ARRAYS,
    *_SKY,
    *_BIOLOGY,
    *_FORMULAS,
    *_COMPILING,
    *_STANDARD,
    *_SERVICES,
    *_GRAPHS,
    *_MARKUP,
    *_PLOTTING,
    *_LEARNING,
    *_STORAGE_AND_NETWORK,
)
