"""Hidden dependencies: what a library imports only because of how it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze
from envpack.discover.hidden.triggers import GROUP, alternatives, triggers_by_name
from envpack.errors import UsageError
from tests.discover.conftest import Environment, Project

INSTALLED = {
    "pandas": "pandas",
    "networkx": "networkx",
    "xarray": "xarray",
    "beautifulsoup4": "bs4",
    "matplotlib": "matplotlib",
    "sqlalchemy": "sqlalchemy",
    "httpx": "httpx",
    "fsspec": "fsspec",
    "requests": "requests",
    "joblib": "joblib",
    "dask": "dask",
    "openpyxl": "openpyxl",
    "xlsxwriter": "xlsxwriter",
    "xlrd": "xlrd",
    "pyarrow": "pyarrow",
    "lxml": "lxml",
    "html5lib": "html5lib",
    "jinja2": "jinja2",
    "plotly": "plotly",
    "scipy": "scipy",
    "zarr": "zarr",
    "h5netcdf": "h5netcdf",
    "h2": "h2",
    "s3fs": "s3fs",
    "gcsfs": "gcsfs",
    "zstandard": "zstandard",
    "psycopg2-binary": "psycopg2",
    "pymysql": "pymysql",
    "distributed": "distributed",
    "pysocks": "socks",
    "pyqt5": "PyQt5",
    "numpy": "numpy",
    "numba": "numba",
    "astropy": "astropy",
    "patsy": "patsy",
    "biopython": "Bio",
    "cftime": "cftime",
    "pillow": "PIL",
    "google-auth": "google",
    "tzdata": "tzdata",
    "msgpack": "msgpack",
    "werkzeug": "werkzeug",
    "cryptography": "cryptography",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "lz4": "lz4",
    "narwhals": "narwhals",
}

MODULES = (
    *("dask/dataframe.py", "Bio/PDB/binary_cif.py", "google/auth/transport/requests.py", "plotly/express.py"),
    *("openpyxl/drawing/image.py", "openpyxl/utils/dataframe.py", "astropy/visualization/wcsaxes/core.py"),
)

Ask = Callable[..., Dependencies]


@pytest.fixture(scope="module")
def rich_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("environment"))
    for name, module in INSTALLED.items():
        made.install(name, files=(f"{module}.py" if module == "socks" else f"{module}/__init__.py",))
    for file in MODULES:
        (made.site / file).parent.mkdir(parents=True, exist_ok=True)
        (made.site / file).touch()
    return made


@pytest.fixture
def ask(rich_environment: Environment, project: Project) -> Ask:
    def answer(source: str, function: str = "") -> Dependencies:
        script = project({"main.py": source})
        return analyze(f"{script}:{function}" if function else script, python=rich_environment.python)

    return answer


def hidden(found: Dependencies) -> set[str]:
    return {item.name for item in found.distributions if item.role == "hidden"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pandas as pd\npd.read_excel('a.xlsx')", {"openpyxl"}),
        ("import pandas as pd\npd.read_excel('a.xls')", {"xlrd"}),
        ("import pandas as pd\npd.read_excel('a.xls', engine='openpyxl')", {"openpyxl"}),
        ("import pandas as pd, sys\npd.read_excel(sys.argv[1])", {"openpyxl"}),
        ("from pandas import read_excel as read\ntables = map(read, ['a', 'b'])", {"openpyxl"}),
        ("from functools import partial\nimport pandas as pd\npartial(pd.read_excel, engine='xlrd')", {"xlrd"}),
        ("import pandas as pd\noptions = {'engine': 'xlrd'}\npd.read_excel('a', **options)", {"xlrd"}),
        ("import pandas\ndef save(f): f.to_excel('a.xlsx', engine='openpyxl')", {"openpyxl"}),
        (
            "import pandas\nfor e in ('openpyxl', 'xlsxwriter'): pandas.DataFrame().to_excel('a', engine=e)",
            {"openpyxl", "xlsxwriter"},
        ),
        ("import pandas as pd\nwith pd.ExcelWriter('a', engine='openpyxl') as w: x.to_excel(w)", {"openpyxl"}),
        ("import pandas as pd\npd.read_parquet('a')", {"pyarrow"}),
        ("import pandas as pd\npd.read_html('a')", {"lxml"}),
        ("import pandas as pd\npd.read_html('a', flavor='bs4')", {"html5lib", "beautifulsoup4"}),
        ("import pandas as pd\npd.read_csv(f's3://{bucket}/a.csv')", {"fsspec", "s3fs"}),
        ("import pandas as pd\nbase = 'gs://b/' + name\npd.read_csv(base)", {"fsspec", "gcsfs"}),
        ("import pandas as pd\npd.read_csv(folder + '/a.csv.zst')", {"zstandard"}),
        ("import pandas as pd\npd.read_csv('a.csv')", set()),
        ("import pandas as pd\npd.read_sql('select 1', 'postgresql://h/d')", {"sqlalchemy"}),
        ("import pandas as pd, sqlite3\npd.read_sql('select 1', sqlite3.connect(':memory:'))", set()),
        ("import pandas as pd\npd.DataFrame().style.format('{}')", {"jinja2"}),
        ("import pandas as pd\npd.DataFrame().plot()", {"matplotlib"}),
        ("import pandas as pd\npd.options.plotting.backend = 'plotly'\npd.Series().plot()", {"plotly"}),
        ("import pandas as pd\npd.set_option('plotting.backend', 'plotly')\npd.Series().plot()", {"plotly"}),
        ("from bs4 import BeautifulSoup\nBeautifulSoup(t, 'lxml')", {"lxml"}),
        ("from bs4 import BeautifulSoup\nBeautifulSoup(t, features='html5lib')", {"html5lib"}),
        ("from bs4 import BeautifulSoup\nBeautifulSoup(t, 'html.parser')", set()),
        ("import xarray as xr\nxr.open_dataset('a.zarr')", {"zarr"}),
        ("import xarray as xr\nxr.open_dataset('a.nc')", {"h5netcdf"}),
        ("import xarray as xr\nxr.open_dataset('a', engine='scipy')", {"scipy"}),
        ("import networkx as nx\nnx.pagerank(g)", {"scipy"}),
        ("import networkx as nx\nnx.algorithms.link_analysis.pagerank(g)", {"scipy"}),
        ("import networkx as nx\nnx.draw(g)", {"matplotlib"}),
        ("import networkx as nx\nnx.shortest_path(g)", set()),
        ("import httpx\nhttpx.Client(http2=True)", {"h2"}),
        ("import httpx\nhttpx.Client(http2=False)", set()),
        ("import fsspec\nfsspec.filesystem('s3')", {"s3fs"}),
        ("import requests\nrequests.get(u, proxies={'https': 'socks5h://localhost:1'})", {"pysocks"}),
        ("import requests\ns = requests.Session()\ns.proxies = {'http': 'socks5://h'}", {"pysocks"}),
        ("import joblib\njoblib.Parallel(backend='dask')", {"distributed"}),
        ("import matplotlib\nmatplotlib.use('QtAgg')", {"pyqt5"}),
        ("import matplotlib as m\nm.rcParams['backend'] = 'QtAgg'", {"pyqt5"}),
        ("from sqlalchemy import create_engine as c\nc(f'postgresql://{host}/d')", {"psycopg2-binary"}),
        ("from sqlalchemy import create_engine\ncreate_engine('mysql+pymysql://h/d')", {"pymysql"}),
        ("from sqlalchemy import create_engine\ncreate_engine('sqlite://')", set()),
        ("import dask.dataframe", {"pandas", "pyarrow"}),
        ("from xarray import date_range\ndate_range('2000', periods=3, calendar='noleap')", {"cftime"}),
        ("import xarray\nxarray.date_range('2000', periods=3, calendar='standard')", set()),
        ("import xarray\ndef f(a): return a.convert_calendar('julian')", {"cftime"}),
        ("import xarray\ndef f(a): return a.curvefit('t', g)", {"scipy"}),
        ("import xarray\ndef f(a): return a.interpolate_na('t')", set()),
        ("import xarray\ndef f(a): return a.interpolate_na('t', method='akima')", {"scipy"}),
        ("from astropy.coordinates import match_coordinates_3d as m\nm(a, b)", {"scipy"}),
        ("import astropy.coordinates\ndef f(c): return c.search_around_sky(c, 1)", {"scipy"}),
        ("from astropy.cosmology import Planck18 as p\np.age(1)", {"scipy"}),
        ("from astropy.cosmology import Planck18 as p\np.H(1)", set()),
        ("from astropy.stats import histogram\nhistogram(x, bins='knuth')", {"scipy"}),
        ("from astropy.table import Table\nTable().write('a.parquet')", {"pyarrow"}),
        ("from astropy.table import Table\nTable().to_df('pandas')", {"narwhals", "pandas"}),
        ("from astropy.visualization.wcsaxes import WCSAxes", {"matplotlib"}),
        ("from Bio import Phylo\nPhylo.draw(t)", {"matplotlib"}),
        ("from Bio import Phylo\nPhylo.draw_ascii(t)", set()),
        ("from Bio.PDB.binary_cif import BinaryCIFParser", {"msgpack"}),
        ("from patsy import dmatrices\ndmatrices('y ~ x', d, return_type='dataframe')", {"pandas"}),
        ("import patsy\npatsy.dmatrix('bs(x, df=4)', d)", {"scipy"}),
        ("import patsy\npatsy.dmatrix('abs(x)', d)", set()),
        ("import numba, numpy as np\n@numba.njit\ndef f(a): return np.linalg.det(a)", {"scipy"}),
        (
            "from numba import jit\nfrom numpy.linalg import solve\n@jit(nopython=True)\ndef f(a): return solve(a, a)",
            {"scipy"},
        ),
        ("import numba, numpy as np\n@numba.njit\ndef f(a): return np.sum(a)\nnp.linalg.det(b)", set()),
        ("from google.auth.transport.requests import Request", {"requests"}),
        ("from zoneinfo import reset_tzpath\nreset_tzpath(())", {"tzdata"}),
        ("import zoneinfo\nzoneinfo.ZoneInfo('Asia/Tokyo')", set()),
        ("import zoneinfo\nzoneinfo.reset_tzpath(to=['/zones'])", set()),
        ("from openpyxl.drawing.image import Image\nImage('a.png')", {"pillow"}),
        ("from openpyxl.utils.dataframe import dataframe_to_rows", {"numpy"}),
        ("import html5lib\nhtml5lib.parseFragment('<p>', treebuilder='lxml')", {"lxml"}),
        ("import html5lib\nhtml5lib.parse('<p>')", set()),
        ("import networkx as nx\nnx.graph_edit_distance(g, h)", {"scipy"}),
        ("import networkx as nx\nnx.clustering(g, weight='w')", {"numpy"}),
        ("import networkx as nx\nnx.clustering(g)", set()),
        ("import plotly.express as px\npx.bar(x=[1], y=[2])", {"numpy", "pandas"}),
        ("import plotly.express as px\npx.bar(table, x='a')", {"numpy"}),
        ("import werkzeug.serving as s\ns.run_simple('h', 1, app, ssl_context='adhoc')", {"cryptography"}),
        ("from skimage.filters import try_all_threshold as t\nt(x)", {"matplotlib"}),
        ("import joblib\njoblib.dump(x, 'a.pkl.lz4')", {"lz4"}),
    ],
)
def test_use_of_a_library_needs_what_its_documentation_says(ask: Ask, source: str, expected: set[str]) -> None:
    assert hidden(ask(source)) == expected


def test_evidence_is_the_line_of_the_use(ask: Ask) -> None:
    found = ask("import pandas as pd\n\ndef load(p):\n    return pd.read_parquet(p)\n")
    (item,) = [item for item in found.distributions if item.name == "pyarrow"]
    assert [(one.line, one.kind, one.module) for one in item.evidence] == [(4, "hidden", "pyarrow")]
    assert "pyarrow" in found.functions[0].modules
    assert "pyarrow==1.0" in found.requirements()


def test_method_counts_only_where_its_library_is_imported(ask: Ask) -> None:
    assert hidden(ask("def save(frame): frame.to_excel('a.xlsx')")) == set()


PARAMETERS = {
    "unknown": ("import pandas\ndef f(table): table.to_excel('a.xlsx')", {"pandas", "xlsxwriter"}),
    "quoted": ("import pandas as pd\ndef f(t: 'pd.DataFrame'): t.to_excel('a.xlsx')", {"pandas", "xlsxwriter"}),
    "lazy": (
        "from __future__ import annotations\nimport pandas\ndef f(t: pandas.DataFrame | None): t.to_excel('a.xlsx')",
        {"pandas", "xlsxwriter"},
    ),
    "only_for_types": (
        "import typing\nif typing.TYPE_CHECKING:\n    from pandas import DataFrame\ndef f(t: 'DataFrame'): t.plot()",
        {"pandas", "matplotlib"},
    ),
    "other_library": ("import pandas, xarray\ndef f(t: 'xarray.Dataset'): t.to_excel('a.xlsx')", set()),
    "other_type": (
        "import pandas\nclass T: pass\ndef f(t: 'T', u: 'list[str]'): t.to_excel('a'), u.to_excel('b')",
        set(),
    ),
    "shared_name": ("import pandas, xarray\ndef f(t): t.to_parquet('a')", set()),
    "ambiguous": ("import pandas\ndef f(t): t.plot()", set()),
    "local": ("import pandas\ndef f(n):\n    t = g(n)\n    t.to_excel('a.xlsx')\ndef g(n): return n", set()),
    "not_imported": ("def f(t): t.to_excel('a.xlsx')", set()),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameter_is_of_the_library_that_its_annotation_or_its_file_suggests(case: str, ask: Ask) -> None:
    source, expected = PARAMETERS[case]
    assert hidden(ask(source, "f")) == expected


def test_whole_script_meets_only_objects_of_what_it_imports(ask: Ask) -> None:
    assert hidden(ask(PARAMETERS["only_for_types"][0])) == set()


def test_only_uses_that_the_function_reaches_count(ask: Ask) -> None:
    source = "import pandas as pd\ndef one(p): return pd.read_excel(p)\ndef two(p): return pd.read_csv(p)\n"
    assert hidden(ask(source, "one")) == {"openpyxl"}
    assert hidden(ask(source, "two")) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pandas\nimport matplotlib.pyplot as plt\nplt.style.use('ggplot')",
        "import pandas\nimport docx\nrun = docx.Document().paragraphs[0]\nrun.style = 'x'\nprint(run.style)",
        "import pandas\nclass A:\n    def f(self): return self.style",
    ],
)
def test_same_name_of_another_library_does_not_count(ask: Ask, source: str) -> None:
    assert "jinja2" not in hidden(ask(source))


def test_direct_import_stays_direct(ask: Ask) -> None:
    found = ask("import pandas as pd, openpyxl\npd.read_excel('a.xlsx')")
    assert {item.name: item.role for item in found.distributions}["openpyxl"] == "direct"


def test_what_another_distribution_requires_anyway_is_transitive(environment: Environment, project: Project) -> None:
    environment.install("seaborn", files=("seaborn/__init__.py",), requires=("pandas", "matplotlib"))
    environment.install("pandas", files=("pandas/__init__.py",))
    environment.install("matplotlib", files=("matplotlib/__init__.py",))
    script = project({"main.py": "import pandas, seaborn\npandas.DataFrame().plot()\n"})
    found = analyze(script, python=environment.python)
    assert {item.name: item.role for item in found.distributions}["matplotlib"] == "transitive"
    assert found.requirements() == ("pandas==1.0", "seaborn==1.0")


def test_of_hidden_ones_only_those_are_named_that_the_others_do_not_require(
    environment: Environment, project: Project
) -> None:
    for name, requires in (("numpy", ()), ("pandas", ("numpy",)), ("plotly", ())):
        environment.install(name, files=(f"{name}/__init__.py", f"{name}/express.py"), requires=requires)
    script = project({"main.py": "import plotly.express as px\npx.pie(values=[1])"})
    found = analyze(script, python=environment.python)
    assert {item.name: item.role for item in found.distributions} == {
        "numpy": "transitive",
        "pandas": "hidden",
        "plotly": "direct",
    }


OWN = {
    "made_here": "class Sheet:\n    def to_excel(self, p): pass\nSheet().to_excel('a')",
    "kept_in_a_name": "class Sheet:\n    def to_excel(self, p): pass\ns = Sheet()\ns.to_excel('a')",
    "inherited": "class Base:\n    def to_excel(self, p): pass\nclass Sheet(Base): pass\nSheet().to_excel('a')",
    "itself": "class Sheet:\n    def to_excel(self, p): pass\n    def save(self): self.to_excel('a')\nSheet().save()",
}


@pytest.mark.parametrize("case", OWN)
def test_method_of_a_class_of_the_program_is_not_the_librarys(case: str, ask: Ask) -> None:
    assert hidden(ask(f"import pandas\n{OWN[case]}")) == set()


def test_use_that_may_fail_is_optional(ask: Ask) -> None:
    source = """
        import pandas as pd
        def load(p):
            try:
                import openpyxl
                return pd.read_excel(p)
            except ImportError:
                return None
    """
    assert {item.name: item.role for item in ask(source).distributions}["openpyxl"] == "optional"


def test_certain_use_of_what_is_not_installed_is_missing(environment: Environment, project: Project) -> None:
    environment.install("pandas", files=("pandas/__init__.py",))
    script = project({"main.py": "import pandas as pd\npd.read_parquet('a')\ndef save(f): f.to_feather('a')\nsave(1)"})
    found = analyze(script, python=environment.python)
    assert [(item.module, item.line, item.kind) for item in found.unresolved] == [
        ("pyarrow", 2, "missing"),
        ("pyarrow", 3, "conditional"),
    ]
    assert "pandas: pandas.read_parquet imports pyarrow or fastparquet" in found.unresolved[0].hint
    assert analyze(script, python=environment.python, exclude=["pyarrow"]).unresolved == ()


def test_every_trigger_is_well_formed() -> None:
    for name, triggers in triggers_by_name().items():
        for trigger in triggers:
            assert trigger.library.isidentifier(), name
            assert trigger.cases, name
            for case in trigger.cases:
                modules = [module for group in alternatives(case.needs) for module in group]
                assert all(part.isidentifier() for module in modules for part in module.split(".")), case
            conditionless = [case.when is None for case in trigger.cases]
            assert True not in conditionless[:-1], f"{trigger.library} {name}: a case after the last one"


@pytest.fixture
def contribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a plug-in that contributes triggers into the process that analyses."""

    def install(source: str) -> None:
        (tmp_path / "ours_triggers.py").write_text(source)
        metadata = tmp_path / "ours-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nours = ours_triggers:TRIGGERS\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        triggers_by_name.cache_clear()

    yield install
    triggers_by_name.cache_clear()
    sys.modules.pop("ours_triggers", None)


def test_entry_point_adds_triggers(ask: Ask, contribute: Callable[[str], None]) -> None:
    contribute(
        "from envpack.discover.hidden.triggers import Case, Given, Trigger\n"
        "TRIGGERS = [Trigger('joblib', ('special',), (Case('zarr', Given(0, 'kind', values=('z',))),))]\n"
    )
    assert hidden(ask("import joblib\njoblib.special('z')")) == {"zarr"}
    assert hidden(ask("import joblib\njoblib.special('y')")) == set()


@pytest.mark.parametrize("source", ["TRIGGERS = [1]", "TRIGGERS = 1", "raise RuntimeError('no')"])
def test_entry_point_that_gives_no_triggers_is_named(contribute: Callable[[str], None], source: str) -> None:
    contribute(source)
    with pytest.raises(UsageError, match="ours_triggers:TRIGGERS"):
        triggers_by_name()
