"""The only reader and writer of result files: xarray datasets in NetCDF, with their provenance."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers.arrays import Arrays
from solvers.errors import ExperimentError
from solvers.experiment import Experiment

if TYPE_CHECKING:
    import xarray

SCHEMA = 1
"""Version of the files' layout, kept in the attribute ``macrodyn_schema``."""

PACKAGES = ("macrodyn", "numpy", "scipy", "sympy", "xarray", "h5netcdf")


class ResultFileError(ExperimentError):
    """A file that is no result file of this program, or that cannot be read or written."""


def save(
    data: Arrays | xarray.Dataset, path: str | Path, experiment: Experiment | None
) -> Path:
    """Writes a result with its provenance; the file appears complete or not at all.

    Attributes: the versions and, if the result belongs to an experiment, that as TOML and its
    digest, the digest of the generated source, the seed of the simulation. Variables without a
    unit are marked dimensionless ("1").

    Raises:
        ResultFileError: the file cannot be written.
    """
    # In memory first: the HDF5 library does not survive a disk that fills up while it writes.
    content = _netcdf(data, {**data.attrs, **provenance(experiment)})
    return write_atomically(Path(path), lambda file: file.write_bytes(content))


def _netcdf(data: Arrays | xarray.Dataset, attributes: Mapping[Any, Any]) -> bytes:
    """The file's content, by the conventions after which ``xarray.open_dataset`` reads it."""
    import h5netcdf
    import h5py

    buffer = BytesIO()
    variables: Mapping[Any, Any] = data.variables
    beside = [str(name) for name in data.coords if variables[name].dims != (name,)]
    with h5netcdf.File(buffer, "w") as file:
        for name, variable in variables.items():
            dims, values = variable.dims, variable.values
            for axis, size in zip(dims, values.shape, strict=True):
                if axis not in file.dimensions:
                    file.dimensions[axis] = size
            text = values.dtype.kind in "OU"
            kind = h5py.string_dtype() if text else values.dtype
            made = file.create_variable(name, dims, kind, values.astype(kind))
            made.attrs.update({"units": "1", **variable.attrs})
            placed = [c for c in beside if c != name and set(variables[c].dims) <= set(dims)]
            if placed:
                made.attrs["coordinates"] = " ".join(placed)
        file.attrs.update(attributes)
    return buffer.getvalue()


def provenance(experiment: Experiment | None) -> dict[str, Any]:
    """What it takes to make a result again, as attributes of its file."""
    versions = json.dumps({"python": platform.python_version(), **_versions()})
    made = {"macrodyn_schema": SCHEMA, "versions": versions}
    if experiment is None:
        return made
    source = experiment.__dict__.get("compiled")
    seed = experiment.simulate.seed if experiment.simulate else None
    return made | {
        "experiment": experiment.to_toml(),
        "experiment_name": experiment.name,
        "experiment_digest": experiment.digest,
        "source_digest": source.digest if source is not None else "",
        "seed": json.dumps(seed),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def load(path: str | Path) -> xarray.Dataset:
    """The dataset in a result file, in memory.

    Raises:
        ResultFileError: absent, unreadable, not a result file, or of another schema version.
    """
    import xarray

    path = Path(path)
    if not path.is_file():
        kind = "is a folder; give a result file in it" if path.is_dir() else "does not exist"
        raise ResultFileError(f"{path} {kind}")
    try:
        with xarray.open_dataset(path, engine="h5netcdf") as file:
            dataset = file.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ResultFileError(f"{path} is not a result file: {_reason(error)}") from None
    found = dataset.attrs.get("macrodyn_schema")
    if found is None:
        raise ResultFileError(f"{path} was not written by macrodyn; give one of its result files")
    if found != SCHEMA:
        raise ResultFileError(
            f"{path} has schema version {found}, this is macrodyn {_versions()['macrodyn']} for "
            f"version {SCHEMA}; run the experiment again"
        )
    return dataset


def experiment_of(dataset: xarray.Dataset) -> Experiment:
    """The experiment that a result belongs to.

    Raises:
        ExperimentError: its rule or activation came from Python and is not registered here.
    """
    attributes = dataset.attrs
    return Experiment.from_toml(attributes["experiment"], name=attributes["experiment_name"])


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Lets ``write`` fill a temporary file beside ``path``, then renames it to ``path``."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ResultFileError(f"cannot write {path}: {_reason(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return strerror or str(error)[:160] or type(error).__name__
