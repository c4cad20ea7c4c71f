"""What programs talk to and show: services, markup, plots, storage and networks."""

from __future__ import annotations

from envpack.discover.hidden.table.cases import imports, protocols, simple, starts, when
from envpack.discover.hidden.triggers import Case, Given, Trigger

_STANDARD = (
    Trigger(
        "zoneinfo",
        ("reset_tzpath",),
        # With no folder to search there is only the data that a distribution brings.
        (when("tzdata", 0, "to", ()),),
    ),
)

_SERVICES = (
    imports("requests", "google.auth.transport.requests", "google.auth.compute_engine"),
    imports("urllib3", "google.auth.transport.urllib3"),
    imports("grpc", "google.auth.transport.grpc"),
    imports("aiohttp", "google.auth.transport._aiohttp_requests", "google.auth.aio.transport.aiohttp"),
    Trigger("flask", ("run",), (when("cryptography", None, "ssl_context", "adhoc"),), reached="method"),
    Trigger("werkzeug", ("run_simple",), (when("cryptography", None, "ssl_context", "adhoc"),)),
    simple("werkzeug", "cryptography", "make_ssl_devcert", "generate_adhoc_ssl_context"),
)

_MARKUP = (
    Trigger(
        "bs4",
        ("BeautifulSoup",),
        (
            when("lxml", 1, "features", "lxml", "xml", "lxml-xml", "lxml-html"),
            when("html5lib", 1, "features", "html5lib", "html5"),
            when("", 1, "features", "html.parser", "html"),
        ),
    ),
    Trigger("html5lib", ("html5lib.parse",), (when("lxml", 1, "treebuilder", "lxml"),)),
    Trigger("html5lib", ("parseFragment",), (when("lxml", 2, "treebuilder", "lxml"),)),
    Trigger("html5lib", ("getTreeBuilder",), (when("lxml", 0, "treeType", "lxml"),)),
    Trigger("html5lib", ("getTreeWalker",), (when("lxml", 0, "treeType", "lxml"),)),
    Trigger("html5lib", ("html5lib.serialize",), (when("lxml", 1, "tree", "lxml"),)),
    imports("html5lib", "lxml.html.html5parser"),
    imports("bs4", "lxml.html.soupparser"),
    imports("lxml_html_clean", "lxml.html.clean"),
    simple("openpyxl", "PIL", "drawing.image.Image"),
    imports("numpy", "openpyxl.utils.dataframe"),
    Trigger("markdown", ("markdown", "Markdown"), (when("pygments", None, "extensions", "codehilite"),)),
    simple("lxml", "cssselect", "cssselect", "CSSSelector", reached="method"),
    simple("lxml", "bs4", "soupparser.fromstring", "soupparser.parse"),
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
            when("PyQt6 | PySide6 | PyQt5 | PySide2", 0, "backend", "QtAgg", "qtagg", "QtCairo", "qtcairo"),
            when("PyQt5 | PySide2", 0, "backend", "Qt5Agg", "qt5agg", "Qt5Cairo", "qt5cairo"),
            when("gi", 0, "backend", "GTK3Agg", "gtk3agg", "GTK4Agg", "gtk4agg"),
            when("gi + cairo", 0, "backend", "GTK3Cairo", "gtk3cairo", "GTK4Cairo", "gtk4cairo"),
            when("wx", 0, "backend", "WXAgg", "wxagg", "WX", "wx"),
            when("cairocffi | cairo", 0, "backend", "cairo"),
            when("tornado", 0, "backend", "WebAgg", "webagg"),
            when("ipympl", 0, "backend", "widget", "ipympl", "module://ipympl.backend_nbagg"),
        ),
    ),
    simple("plotly", "kaleido", "write_image", "to_image", "write_images", reached="method"),
    imports("numpy", "plotly.express", "plotly.figure_factory"),
    # A table that is given is of a library that the program imports; lists are put into one of pandas.
    Trigger("plotly", _CHARTS, (Case("", Given(0, "data_frame")), Case("pandas"))),
    Trigger("plotly", ("scatter",), (Case("statsmodels", Given(None, "trendline", ("ols", "lowess"))),)),
    simple("plotly", "scipy", "create_distplot", "create_dendrogram", "create_trisurf", "create_ternary_contour"),
    simple("plotly", "skimage", "create_ternary_contour"),
    simple("plotly", "pandas", "create_hexbin_map"),
    simple("tifffile", "matplotlib", "tifffile.imshow"),
    simple("mpmath", "matplotlib", "mpmath.plot", "mpmath.cplot", "mpmath.splot"),
    simple("pyparsing", "railroad + jinja2", "create_diagram", reached="method"),
    simple("scipy", "pooch", "datasets.face", "datasets.ascent", "datasets.electrocardiogram"),
    simple("plotly", "anywidget", "FigureWidget"),
    simple("plotly", "pandas", "data.iris", "data.gapminder", "data.tips", "data.stocks", "data.medals_long"),
    simple("seaborn", "scipy", "clustermap"),
    Trigger("seaborn", ("kdeplot",), (when("scipy", None, "cumulative", True),)),
    Trigger("seaborn", ("regplot", "lmplot"), tuple(when("statsmodels", None, k, True) for k in ("lowess", "robust"))),
    Trigger("seaborn", ("regplot", "lmplot", "residplot"), (when("statsmodels", None, "logistic", True),)),
    Trigger("seaborn", ("residplot",), (when("statsmodels", None, "lowess", True),)),
    Trigger("bokeh", ("export_png", "export_svg", "export_svgs", "get_screenshot_as_png"), (Case("selenium"),)),
    simple("bokeh", "pandas", "sampledata.download"),
    simple("statsmodels", "matplotlib", "plot_acf", "plot_pacf", "qqplot", "plot_fit", "influence_plot", "month_plot"),
    simple("statsmodels", "matplotlib", "plot_regress_exog", "plot_partregress_grid", "interaction_plot", "mosaic"),
    simple("statsmodels", "matplotlib", "plot_diagnostics", "plot_ccpr", "seasonal_plot", "quarter_plot"),
    simple("statsmodels", "matplotlib", "abline_plot", "plot_ccpr_grid", "plot_partregress", "plot_ceres_residuals"),
    simple("statsmodels", "matplotlib", "plot_leverage_resid2", "plot_added_variable", "rainbowplot", "fboxplot"),
    simple("statsmodels", "matplotlib", "violinplot", "beanplot", "dot_plot", "plot_corr", "plot_corr_grid", "qqline"),
    simple("statsmodels", "matplotlib", "scatter_ellipse", "mean_diff_plot", "qqplot_2samples", "plot_ccf"),
    simple("statsmodels", "matplotlib", "plot_diagnostics", "plot_simultaneous", "plot_components", reached="method"),
    Trigger("statsmodels", ("plot_predict",), (Case("matplotlib"),), reached="method", is_ambiguous=True),
    simple("scipy", "matplotlib", "voronoi_plot_2d", "delaunay_plot_2d", "convex_hull_plot_2d"),
    Trigger("scipy", ("dendrogram",), (when("", None, "no_plot", True), Case("matplotlib"))),
)

_STORAGE_AND_NETWORK = (
    Trigger(
        "fsspec",
        ("open", "open_files", "open_local", "get_mapper", "url_to_fs", "core.url_to_fs"),
        (
            *protocols(0, "urlpath"),
            starts("aiohttp", 0, "urlpath", "http://", "https://"),
        ),
    ),
    Trigger(
        "fsspec",
        ("filesystem", "get_filesystem_class"),
        (
            when("s3fs", 0, "protocol", "s3", "s3a"),
            when("gcsfs", 0, "protocol", "gs", "gcs"),
            when("adlfs", 0, "protocol", "abfs", "abfss", "az", "adl"),
            when("aiohttp", 0, "protocol", "http", "https"),
            when("paramiko", 0, "protocol", "sftp", "ssh"),
            when("huggingface_hub", 0, "protocol", "hf"),
            when("pyarrow", 0, "protocol", "hdfs", "arrow_hdfs"),
            when("smbprotocol", 0, "protocol", "smb"),
            when("requests", 0, "protocol", "github", "webhdfs", "databricks", "dbfs"),
            when("git", 0, "protocol", "git"),
            when("libarchive", 0, "protocol", "libarchive"),
            when("distributed", 0, "protocol", "dask"),
        ),
    ),
    Trigger(
        "fsspec",
        ("open", "open_files"),
        (
            when("zstandard", None, "compression", "zstd"),
            when("lz4", None, "compression", "lz4"),
            when("snappy", None, "compression", "snappy"),
        ),
    ),
    Trigger(
        "httpx", ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"), (when("h2", None, "http2", True),)
    ),
    Trigger("httpx", ("Client", "AsyncClient"), (starts("socksio", None, "proxy", "socks"),)),
    Trigger("httpcore", ("ConnectionPool", "AsyncConnectionPool"), (when("h2", None, "http2", True),)),
    Trigger(
        "requests",
        ("get", "post", "put", "patch", "delete", "head", "options", "request"),
        (starts("socks", None, "proxies", "socks"),),
        reached="method",
    ),
    Trigger("requests", ("proxies", "proxies.update"), (starts("socks", 0, "", "socks"),), reached="method"),
    simple("urllib3", "socks", "SOCKSProxyManager"),
    Trigger(
        "sqlalchemy",
        ("create_engine", "create_async_engine", "engine_from_config"),
        (
            starts("asyncpg", 0, "url", "postgresql+asyncpg:"),
            starts("psycopg", 0, "url", "postgresql+psycopg:", "postgresql+psycopg_async:"),
            starts("pg8000", 0, "url", "postgresql+pg8000:"),
            starts("psycopg2", 0, "url", "postgresql:", "postgresql+psycopg2:"),
            starts("pymysql", 0, "url", "mysql+pymysql:", "mariadb+pymysql:"),
            starts("mysql.connector", 0, "url", "mysql+mysqlconnector:", "mariadb+mysqlconnector:"),
            starts("aiomysql", 0, "url", "mysql+aiomysql:"),
            starts("asyncmy", 0, "url", "mysql+asyncmy:"),
            starts("MySQLdb", 0, "url", "mysql:", "mariadb:", "mysql+mysqldb:"),
            starts("mariadb", 0, "url", "mariadb+mariadbconnector:"),
            starts("oracledb", 0, "url", "oracle+oracledb:"),
            starts("oracledb | cx_Oracle", 0, "url", "oracle:"),
            starts("pymssql", 0, "url", "mssql+pymssql:"),
            starts("pyodbc", 0, "url", "mssql:", "mssql+pyodbc:"),
            starts("aiosqlite", 0, "url", "sqlite+aiosqlite:"),
            starts("duckdb_engine", 0, "url", "duckdb:"),
        ),
    ),
    imports("greenlet", "sqlalchemy.ext.asyncio"),
    simple("pydantic", "email_validator", "EmailStr", "NameEmail", "validate_email"),
    simple("fastapi", "multipart | python_multipart", "Form", "File"),
    imports("httpx", "fastapi.testclient", "starlette.testclient"),
    imports("jinja2", "fastapi.templating", "starlette.templating"),
    imports("itsdangerous", "starlette.middleware.sessions"),
    imports("ipywidgets", "tqdm.notebook"),
    Trigger("celery", ("Celery",), (starts("redis", None, "broker", "redis:", "rediss:"),)),
    Trigger("celery", ("Celery",), (starts("redis", None, "backend", "redis:", "rediss:"),)),
    Trigger(
        "jwt",
        ("encode",),
        (when("cryptography", 2, "algorithm", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "PS256"),),
    ),
)

SERVICES: tuple[Trigger, ...] = (*_STANDARD, *_SERVICES, *_MARKUP, *_PLOTTING, *_STORAGE_AND_NETWORK)
