"""Methods of the sciences: the sky, biology, formulas, compiled code, graphs, learning."""

from __future__ import annotations

from envpack.discover.hidden.table.cases import ends, imports, simple, when
from envpack.discover.hidden.triggers import Case, Given, Trigger

_COSMOLOGY = (
    *("luminosity_distance", "comoving_distance", "comoving_transverse_distance", "angular_diameter_distance"),
    *("angular_diameter_distance_z1z2", "lookback_time", "lookback_distance", "absorption_distance", "distmod"),
    *("comoving_volume", "arcsec_per_kpc_proper", "arcsec_per_kpc_comoving", "kpc_proper_per_arcmin"),
    *("kpc_comoving_per_arcmin", "lookback_time_integrand"),
)

_SKY = (
    simple("astropy", "scipy", "match_to_catalog_sky", "match_to_catalog_3d", reached="method"),
    simple("astropy", "scipy", "search_around_sky", "search_around_3d", reached="method"),
    simple("astropy", "scipy", "match_coordinates_sky", "match_coordinates_3d", "fit_wcs_from_points"),
    simple("astropy", "scipy", *_COSMOLOGY, reached="method"),
    Trigger("astropy", ("age",), (Case("scipy"),), reached="method", is_ambiguous=True),
    simple("astropy", "scipy", "z_at_value", "Sersic1D", "Sersic2D", "AiryDisk2D", "Tabular1D", "Tabular2D"),
    simple("astropy", "scipy", "tabular_model", "Spline1D", "SplineInterpolateFitter", "SplineSmoothingFitter"),
    simple("astropy", "scipy", "TRFLSQFitter", "LMLSQFitter", "DogBoxLSQFitter", "LevMarLSQFitter", "SLSQPLSQFitter"),
    simple("astropy", "scipy", "SimplexLSQFitter", "JointFitter"),
    simple("astropy", "scipy", "false_alarm_probability", "false_alarm_level", reached="method"),
    simple("astropy", "scipy", "binom_conf_interval", "binned_binom_proportion", "jackknife_stats", "vtest"),
    simple("astropy", "scipy", "knuth_bin_width", "kuiper_two", "kuiper_false_positive_probability"),
    Trigger("astropy", ("stats.histogram", "calculate_bin_edges"), (when("scipy", 1, "bins", "knuth"),)),
    Trigger("astropy", ("poisson_conf_interval",), (when("scipy | mpmath", 1, "interval", "kraft-burrows-nousek"),)),
    simple("astropy", "matplotlib", "quantity_support", "time_support", "visualization.hist", "simple_norm"),
    simple("astropy", "matplotlib", "ImageNormalize", "imshow_norm", "SimpleNorm", reached="function"),
    imports("matplotlib", "astropy.visualization.wcsaxes"),
    Trigger("astropy", ("make_lupton_rgb", "make_rgb"), (Case("PIL", Given(None, "filename")),)),
    Trigger("astropy", ("solar_system_ephemeris.set",), (when("", 0, "value", "builtin", "erfa"), Case("jplephem"))),
    simple("astropy", "dask", "parallel_fit_dask"),
    simple("astropy", "pandas", "to_pandas", reached="method"),
    simple("astropy", "pandas", "from_pandas"),
    simple("astropy", "narwhals", "to_df", "from_df", reached="method"),
    Trigger("astropy", ("to_df",), (when("pandas", 0, "backend", "pandas"),), reached="method"),
    Trigger("astropy", ("to_df",), (when("polars", 0, "backend", "polars"),), reached="method"),
    simple("astropy", "sortedcontainers", "soco.SCEngine", "table.SCEngine"),
    Trigger(
        "astropy",
        ("read", "write"),
        (
            when("h5py", None, "format", "hdf5"),
            when("pyarrow", None, "format", "parquet", "parquet.votable", "pyarrow.csv"),
            when("bs4", None, "format", "ascii.html", "html"),
            Case("pandas", Given(None, "format", starts=("pandas.",))),
            when("", None, "format", "fits", "votable", "ascii.ecsv"),
            ends("h5py", "output", ".hdf5", ".h5"),
            ends("pyarrow", "output", ".parquet"),
        ),
        reached="method",
    ),
)

_BIOLOGY = (
    simple("Bio", "matplotlib", "Phylo.draw"),
    simple("Bio", "networkx", "Phylo.to_networkx"),
    simple("Bio", "igraph", "Phylo.to_igraph"),
    imports("reportlab", "Bio.Graphics"),
    imports("PIL", "Bio.Graphics.KGML_vis"),
    imports("msgpack", "Bio.PDB.binary_cif"),
    imports("mmtf", "Bio.PDB.mmtf"),
    imports("scipy", "Bio.phenotype.pm_fitting"),
    imports("MySQLdb", "Bio.motifs.jaspar.db"),
    Trigger("Bio", ("calculate_dn_ds", "calculate_dn_ds_matrix"), (when("scipy", None, "method", "ML", "YN00"),)),
    Trigger("Bio", ("cal_dn_ds",), (when("scipy", 2, "method", "ML", "YN00"),)),
)

_SPLINES = Case("scipy", Given(0, "formula_like", holds=(r"\b(bs|cr)\(",)))

_FORMULAS = (
    Trigger("patsy", ("dmatrix", "dmatrices"), (when("pandas", None, "return_type", "dataframe"),)),
    Trigger("patsy", ("build_design_matrices",), (when("pandas", None, "return_type", "dataframe"),)),
    Trigger("patsy", ("dmatrix", "dmatrices", "incr_dbuilder"), (_SPLINES,)),
    simple("patsy", "scipy", "patsy.bs", "patsy.cr"),
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
    simple("networkx", "scipy", *_NX_SCIPY),
    simple("networkx", "numpy", *_NX_NUMPY),
    simple("networkx", "matplotlib", *_NX_DRAW),
    simple("networkx", "matplotlib + scipy", "draw_kamada_kawai"),
    simple("networkx", "matplotlib + numpy", "draw_spectral"),
    simple("networkx", "pandas", "from_pandas_edgelist", "to_pandas_edgelist", "from_pandas_adjacency"),
    simple("networkx", "pandas", "to_pandas_adjacency"),
    simple("networkx", "pygraphviz", "graphviz_layout", "to_agraph", "from_agraph", "write_dot", "read_dot"),
    simple("networkx", "pydot", "nx_pydot.to_pydot", "pydot_layout", "nx_pydot.graphviz_layout"),
    simple("networkx", "pandas", "prominent_group"),
    Trigger("networkx", ("clustering", "average_clustering"), (Case("numpy", Given(2, "weight")),)),
    Trigger("networkx", ("densest_subgraph",), (when("numpy", None, "method", "fista"),)),
    Trigger("networkx", ("spring_layout",), (when("scipy", None, "method", "energy"),)),
    simple("networkx", "sympy", "tutte_polynomial", "chromatic_polynomial"),
    simple("networkx", "lxml", "write_graphml_lxml"),
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
        (when("pandas", None, "transform_output", "pandas"), when("polars", None, "transform_output", "polars")),
    ),
    Trigger(
        "sklearn",
        ("set_output",),
        (when("pandas", None, "transform", "pandas"), when("polars", None, "transform", "polars")),
        reached="method",
    ),
    Trigger(
        "sklearn",
        (
            *("load_iris", "load_digits", "load_wine", "load_diabetes", "load_breast_cancer", "load_linnerud"),
            *("fetch_california_housing", "fetch_covtype", "fetch_kddcup99", "fetch_20newsgroups_vectorized"),
        ),
        (when("pandas", None, "as_frame", True),),
    ),
    Trigger("sklearn", ("fetch_openml",), (when("", None, "as_frame", False), Case("pandas"))),
    simple("sklearn", "matplotlib", "plot_tree"),
    simple("sklearn", "matplotlib", *(f"{module}.{display}" for display in _DISPLAYS for module in _DISPLAYING)),
    simple(
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
        (when("distributed", 0, "backend", "dask"), when("ray", 0, "backend", "ray")),
    ),
    Trigger("joblib", ("Parallel",), (when("distributed", None, "backend", "dask"),)),
    Trigger("joblib", ("dump",), (when("lz4", 2, "compress", "lz4"), ends("lz4", "filename", ".lz4", position=1))),
    Trigger("joblib", ("load",), (ends("lz4", "filename", ".lz4"),)),
    simple("sklearn", "PIL", "load_sample_image", "load_sample_images", "fetch_lfw_people", "fetch_lfw_pairs"),
    simple("skimage", "matplotlib", "try_all_threshold", "show_rag", "rectangle_perimeter", "polygon_perimeter"),
    simple("skimage", "sklearn", "learn_gmm", "fisher_vector"),
    simple("skimage", "dask", "apply_parallel", "cycle_spin"),
    simple("skimage", "pywt", "denoise_wavelet", "estimate_sigma"),
    Trigger("sympy", ("jn_zeros",), (when("scipy", None, "method", "scipy"),)),
    Trigger("sympy", ("stats.sample", "stats.sample_iter"), (when("numpy", None, "library", "numpy"), Case("scipy"))),
    Trigger(
        "sympy",
        ("lambdify",),
        (
            when("numpy", 2, "modules", "numpy"),
            when("scipy", 2, "modules", "scipy"),
            when("numexpr", 2, "modules", "numexpr"),
            when("tensorflow", 2, "modules", "tensorflow"),
            when("cupy", 2, "modules", "cupy"),
            when("jax", 2, "modules", "jax"),
            when("torch", 2, "modules", "torch"),
        ),
    ),
    simple("sympy", "numpy", "ufuncify", "matrix2numpy", "list2numpy", "symarray"),
    simple("sympy", "matplotlib", "plot", "plot3d", "plot_implicit", "plot_parametric", "plot3d_parametric_line"),
    simple("sympy", "antlr4", "parse_latex"),
    Trigger("torch", ("onnx.export",), (Case("onnx"),)),
    imports("tensorboard", "torch.utils.tensorboard"),
    Trigger("transformers", ("from_pretrained",), (Case("accelerate", Given(None, "device_map")),)),
    simple("xgboost", "matplotlib", "plot_importance", "plot_tree"),
    simple("lightgbm", "matplotlib", "plot_importance", "plot_metric", "plot_tree"),
)

SCIENCE: tuple[Trigger, ...] = (*_SKY, *_BIOLOGY, *_FORMULAS, *_COMPILING, *_GRAPHS, *_LEARNING)
