"""Functions that make datasets of a run: index, folds, leaks, features, other layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.run import Run

from .opening import Place, output_of

if TYPE_CHECKING:
    from qupath_bridge.datasets.converting import Converted
    from qupath_bridge.datasets.features import FeatureFiles
    from qupath_bridge.datasets.leakage import LeakCheck
    from qupath_bridge.datasets.split_summary import Split

SPLIT_NAME = "folds"
"""Name of a split that is given no other."""


def read_index(
    run: Run | Output | Place,
    *,
    split: str | None = None,
    to: Literal["arrow", "pandas", "polars"] = "arrow",
) -> Any:
    """Return the index of a run, one row per patch, whatever container holds the patches.

    Parameters
    ----------
    run : Run, Output, path or URL
    split : str, optional
        Name of a split: its folds become the column ``fold``, as texts (``0``, ``1`` …, ``test``).
        It is null for what a table made by hand puts into no fold.
    to : str
        ``arrow``: a pyarrow.Table. ``pandas``: a DataFrame in which whole numbers stay whole where
        there are gaps, texts are of the type ``string``, and maps are dictionaries. ``polars``: a
        DataFrame of the types that Polars has for those of Arrow.

    Raises
    ------
    OutputError
        If there is no run, or its rows are damaged; if there is no such split, or it is stale.
    UsageError
        If a table made by hand does not list every slide, or ``to`` is something else.
    MissingDependencyError
        If that library is not installed.

    Examples
    --------
    >>> index = read_index("patches", split="folds", to="pandas")      # doctest: +SKIP
    >>> train = index[index.fold.isin(["1", "2", "3", "4"])]           # doctest: +SKIP
    """
    from qupath_bridge.datasets import reading

    return reading.read_index(output_of(run), split=split, to=to)


def split(
    run: Run | Output | Place,
    *,
    folds: int | None = None,
    by: str | None = None,
    stratify: str | None = None,
    preserve: str | None = None,
    test: float | None = None,
    seed: int | None = None,
    name: str = SPLIT_NAME,
    extend: bool = False,
) -> Split:
    """Put the slides of a run into folds, so that no patient and no slide file is on two sides.

    The table is written beside the index, as ``splits/<name>.parquet`` and ``.csv``, with the
    columns ``slide_id``, ``group`` and ``fold``. The same index and arguments give the same folds,
    on every machine. A slide is in one fold with all its patches, and slides that share a slide
    file are in one group.

    Parameters
    ----------
    run : Run, Output, path or URL
    folds : int, optional
        Number of folds, at least 2.
    by : str, optional
        Key of what must not be on two sides: metadata, as ``patient``; or ``slide_id``,
        ``slide_name``, ``slide_file`` or ``project`` of the index.
    stratify : str, optional
        ``label`` balances the labels of patches; another key balances slides by its values. The
        number of patches is balanced when not given.
    preserve : str, optional
        Key of what has to stay whole too, as ``site``: all groups of a value are in one fold. Up
        to 40 of them are balanced as well as is possible.
    test : float, optional
        Share that is held out of all folds, as the fold ``test``.
    seed : int, optional
        Shuffles groups of about the same size; 0 when not given.
    name : str
        Of the split.
    extend : bool
        Whether a split is brought up to date with its run, as it was asked for: known groups keep
        their fold. It takes no other argument but ``name``.

    Returns
    -------
    Split
        What each fold has, groups that were joined, and warnings.

    Raises
    ------
    OutputError
        If there is no finished run, or another split of this name.
    UsageError
        If slides have no value of a key (all are listed), if there are too few groups, or if
        groups of several folds became one.
    MissingDependencyError
        If scikit-learn and SciPy are not installed.

    Examples
    --------
    >>> made = split("patches", folds=5, by="patient", stratify="label")  # doctest: +SKIP
    >>> made.counts["0"].patches                                         # doctest: +SKIP
    1204
    """
    from qupath_bridge.datasets.split import Recipe, extend_split, make_split

    output = output_of(run)
    wanted = {
        "folds": folds, "by": by, "stratify": stratify, "preserve": preserve, "test": test,
        "seed": seed,
    }  # fmt: skip
    if extend:
        if unused := [key for key, value in wanted.items() if value is not None]:
            raise UsageError(
                f"A split is extended as it was made; {', '.join(unused)} would not be used.",
                hint="Give extend and name alone, or make a new split under another name.",
            )
        return extend_split(output, name)
    if folds is None or by is None:
        raise UsageError(
            "A split needs the number of folds, and the key of its groups (by).",
            hint="As in folds=5, by='patient'; by='slide_id' if slides are all that is known.",
        )
    return make_split(output, name, Recipe(folds, by, stratify, preserve, test, seed or 0))


def check_leakage(
    run: Run | Output | Place,
    split: str = SPLIT_NAME,
    *,
    by: str | None = None,
    pixels: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LeakCheck:
    """Look for what two folds of a split share: patients, slide files, pixels, pictures.

    Parameters
    ----------
    run : Run, Output, path or URL
    split : str
        Name of a split. A table ``splits/<name>.csv`` or ``.parquet`` that was made by hand will
        do, with the columns ``fold`` and ``slide_id`` or ``patch_id``.
    by : str, optional
        Key of what must not be on two sides; that of the split when not given.
    pixels : int, optional
        How many patches to compare by what they show, spread evenly; at most 100,000 when not
        given, none for 0.
    on_progress : callable, optional
        Called with the number of patches that were read, and of all to be read.

    Returns
    -------
    LeakCheck
        ``leaks`` has both places of each; ``not_checked`` says what could not be looked for.

    Raises
    ------
    OutputError
        If there is no finished run or no such split, or the split is stale, or a patch cannot be
        read.
    UsageError
        If the table does not list every slide or patch, or slides have no value of the key.
    """
    from qupath_bridge.datasets import leakage

    return leakage.check_leakage(
        output_of(run), split, by=by, pixels=pixels, on_progress=on_progress
    )


def features(
    run: Run | Output | Place,
    encoder: Path | str,
    *,
    name: str | None = None,
    format: Literal["h5", "parquet", "pt"] = "h5",  # noqa: A002
    dtype: Literal["float32", "float16"] = "float32",
    batch: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> FeatureFiles:
    """Make a vector of each patch of a run with an encoder, one file per slide.

    The files are ``features/<name>/<slide_id>.h5`` (``.parquet``, ``.pt``) in the output, as
    :func:`convert` reads them, and ``features/<name>/record.json`` says how they were made. Slides
    whose file is up to date are kept, so that a call that was interrupted is simply made again.

    Parameters
    ----------
    run : Run, Output, path or URL
    encoder : path
        JSON file that describes an ONNX file beside it: docs/features.md.
    name : str, optional
        Of the features; that of the encoder when not given.
    format : str
        ``h5`` needs h5py, and ``pt`` needs torch.
    dtype : str
        Of the numbers.
    batch : int
        Patches that the encoder gets at once.
    on_progress : callable, optional
        Called with the number of patches that are done, and of all.

    Returns
    -------
    FeatureFiles
        Which slides were made, made anew since they were stale, or kept.

    Raises
    ------
    UsageError
        If patches have another size or resolution than the encoder takes (all such slides are
        listed), if the encoder is not as it is described, or returns what is not finite.
    MissingDependencyError
        If onnxruntime, or what writes the format, is not installed.
    OutputError
        If there is no finished run, if a patch cannot be read, or if there are features of this
        name from another encoder or in another format.

    Examples
    --------
    >>> made = features("patches", "encoder.json")                     # doctest: +SKIP
    >>> convert("patches", "bags", "clam", features=made.place)        # doctest: +SKIP
    """
    from qupath_bridge.datasets.features import make_features

    return make_features(
        output_of(run),
        Path(encoder),
        name=name,
        format=format,
        dtype=dtype,
        batch=batch,
        on_progress=on_progress,
    )


def convert(
    run: Run | Output | Place,
    folder: Path | str,
    to: str,
    *,
    split: str | None = None,
    val: str | None = None,
    features: Path | str | None = None,
) -> Converted:
    """Write a run into a new folder in the layout of another tool; the run stays as it is.

    The file ``convert.json`` in the folder names the run. An option that a layout does not use is
    refused.

    Parameters
    ----------
    run : Run, Output, path or URL
    folder : path
        New or empty, and outside of the run. It is there as a whole, or not at all.
    to : str
        ``imagefolder``: ``[fold/]label/patch``, as torchvision's ``ImageFolder`` reads it. Files
        of the run get a second name (hard link) where that is possible, and are copied otherwise.
        ``coco`` and ``yolo``: pictures with the outlines of single objects; ``semantic``: pictures
        with masks of classes as TIFF files. They need a run with these masks.
        ``clam`` and ``trident``: coordinates of the patches, and bags if there are features.
        ``stamp`` and ``slideflow``: bags of features.
    split : str, optional
        For pictures: name of a split, whose folds become folders.
    val : str, optional
        For pictures: the fold that becomes ``val``; ``test`` stays, and all others become
        ``train``.
    features : path, optional
        For bags: the folder that :func:`features` wrote; or one with ``SLIDE_ID.parquet``,
        ``.h5``, ``.pt`` or ``.npy``; or one Parquet file with the columns ``patch_id`` and
        ``features``.

    Returns
    -------
    Converted
        How many patches are in it, what was left out and why, and warnings.

    Raises
    ------
    UsageError
        If there is no such layout, if it does not use an option, or if it cannot hold the patches.
    MissingDependencyError
        If a package that the layout needs is not installed.
    OutputError
        If there is no finished run, if the folder is not empty or cannot be written, or if a patch
        cannot be read; if there is no such split, or it is stale.

    Examples
    --------
    >>> made = convert("patches", "pictures", "imagefolder", split="folds")  # doctest: +SKIP
    >>> made.patches                                                       # doctest: +SKIP
    1204
    """
    from qupath_bridge.datasets import converting

    place = None if features is None else Path(features)
    options = {"split": split, "val": val, "features": place}
    return converting.convert(output_of(run), Path(folder), to, options)
