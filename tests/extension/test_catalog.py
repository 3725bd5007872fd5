"""The catalogue that QuPath's extension manager reads from the repository."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

import qupath_bridge as qb

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "catalog.json"

READ = """
import com.google.gson.FieldNamingPolicy
import com.google.gson.GsonBuilder
def names = ['qupath.ext.extensionmanager.core.model.CatalogModel',
             'qupath.ext.extensionmanager.core.catalog.Catalog']
def model = names.findResult { name ->
    try {
        def type = Class.forName(name)
        type.isRecord() ? type : null
    } catch (ClassNotFoundException ignored) {
        null
    }
}
if (model == null) {
    println 'none'
    return
}
def gson = new GsonBuilder()
    .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES).create()
def ours = gson.fromJson(new File(args[0]).getText('UTF-8'), model)
if (ours.extensions().size() != 1) throw new IllegalStateException('not one extension')
def catalog = gson.fromJson(new File(args[1]).getText('UTF-8'), model)
def release = catalog.extensions()[0].releases()[0]
println "${release.name()} ${release.mainUrl()} ${release.versionRange().min()}"
"""
"""Reads the catalogue with the classes of QuPath's own extension manager (0.6 and newer)."""


def at(*hosts):
    """Return the type of an address on one of some hosts."""

    def check(address):
        parts = urlsplit(address)
        if parts.scheme != "https" or parts.hostname not in hosts:
            raise ValueError(f"not on {hosts}: {address}")
        return address

    return Annotated[str, AfterValidator(check)]


Text = Annotated[str, Field(min_length=1)]
GitHub = at("github.com")
Version = Annotated[str, Field(pattern=r"^v\d+(\.\d+){0,2}(-rc\d+)?$")]


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version.partition("-")[0])]


def after(one, other):
    """Whether a version is after another, as far as both have numbers: v0.7.3 is not after v0.7."""
    shown = min(len(numbers(one)), len(numbers(other)))
    return numbers(one)[:shown] > numbers(other)[:shown]


class Model(BaseModel):
    """Knows all fields: QuPath skips one with a wrong name and says nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


class VersionRange(Model):
    min: Version
    max: Version | None = None
    excludes: list[Version] = []

    @model_validator(mode="after")
    def check_order(self):
        between = [self.min, *self.excludes, *([self.max] if self.max else [])]
        if any(after(self.min, each) or (self.max and after(each, self.max)) for each in between):
            raise ValueError(f"not between min and max: {between}")
        return self


class Release(Model):
    name: Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+(-rc\d+)?$")]
    main_url: GitHub
    required_dependency_urls: list[GitHub] = []
    optional_dependency_urls: list[GitHub] = []
    javadoc_urls: list[GitHub] = []
    version_range: VersionRange


class Extension(Model):
    name: Text
    description: Text
    author: Text
    homepage: GitHub
    starred: bool
    releases: list[Release]


class Catalog(Model):
    name: Text
    description: Text
    extensions: list[Extension]

    @model_validator(mode="after")
    def check_names(self):
        if len({each.name for each in self.extensions}) < len(self.extensions):
            raise ValueError("two extensions of one name")
        return self


@pytest.fixture(scope="module")
def released():
    """The catalogue with the release of this version, in a repository of this name."""
    spec = importlib.util.spec_from_file_location("catalog", ROOT / "qupath_extension/catalog.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(repository="one/two", version=qb.__version__, catalog=None):
        catalog = catalog or json.loads(CATALOG.read_bytes())
        return module.with_release(catalog, repository, version)

    return make


def test_the_catalogue_names_no_address_before_there_is_a_release():
    """Nobody knows who owns an address that is made up."""
    (extension,) = Catalog.model_validate_json(CATALOG.read_bytes()).extensions
    assert bool(extension.releases) == (extension.homepage != "https://github.com")


def test_a_release_has_what_the_extension_manager_needs(released):
    catalog = Catalog.model_validate_json(json.dumps(released()))
    (extension,) = catalog.extensions
    (release,) = extension.releases
    jar = f"qupath-extension-patch-bridge-{qb.__version__}.jar"
    assert release.name == f"v{qb.__version__}"
    assert extension.homepage == "https://github.com/one/two"
    assert release.main_url == f"{extension.homepage}/releases/download/{release.name}/{jar}"
    assert release.version_range.min == "v0.5.0"


def test_releases_are_listed_once_and_the_newest_first(released):
    catalog = released(version="0.1.0")
    for version in ("0.2.0", "0.2.0"):
        catalog = released("other/place", version, catalog)
    (extension,) = Catalog.model_validate_json(json.dumps(catalog)).extensions
    assert [each.name for each in extension.releases] == ["v0.2.0", "v0.1.0"]
    assert [each.main_url.split("/")[3] for each in extension.releases] == ["other", "one"]


@pytest.mark.parametrize("name", ["", "one", "one/two/three", "https://github.com/one/two"])
def test_a_repository_has_an_owner_and_a_name(released, name):
    with pytest.raises(ValueError, match="OWNER/NAME"):
        released(name)


def change(catalog, value, *path):
    """Return JSON of a catalogue with another value in one place."""
    inner = catalog
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(catalog)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (None, ["name"]),
        ("0.1.0", ["extensions", 0, "releases", 0, "name"]),
        ("http://github.com/a/b", ["extensions", 0, "homepage"]),
        ("https://example.org/a.jar", ["extensions", 0, "releases", 0, "main_url"]),
        ("typing error", ["extensions", 0, "releases", 0, "mainUrl"]),
        ("v0.4", ["extensions", 0, "releases", 0, "version_range", "max"]),
        (["v0.8.0"], ["extensions", 0, "releases", 0, "version_range", "excludes"]),
    ],
    ids=lambda each: str(each[-1]) if isinstance(each, list) else None,
)
def test_a_wrong_catalogue_is_refused(released, value, path):
    with pytest.raises(ValidationError):
        Catalog.model_validate_json(change(json.loads(json.dumps(released())), value, *path))


@pytest.mark.qupath
def test_qupaths_extension_manager_reads_the_catalogue(installation, released, tmp_path):
    script = tmp_path / "read.groovy"
    script.write_text(READ)
    place = tmp_path / "catalog.json"
    place.write_text(json.dumps(released()), encoding="utf-8")
    said = installation.groovy(script, [CATALOG, place]).split()
    if said == ["none"]:
        pytest.skip("only QuPath 0.6 and newer has an extension manager")
    (release,) = released()["extensions"][0]["releases"]
    assert said == [release["name"], release["main_url"], release["version_range"]["min"]]
