"""The manifest: one form, one id, and errors that name the place."""

import copy
import pickle
from typing import Any

import pytest

from envpack.errors import ManifestFormatError
from envpack.pack import LayerRef, Manifest

LAYERS = (LayerRef("b" * 64, "wheel", "numpy", "2.0", 10, 2), LayerRef("a" * 64, "local", "local", "", 1, 1))
MANIFEST = Manifest("3.11", "cpython", "cp311", "linux-x86_64", LAYERS)


def test_manifest_survives_its_dictionary_and_pickling() -> None:
    assert Manifest.from_dict(MANIFEST.to_dict()) == MANIFEST
    again = pickle.loads(pickle.dumps(MANIFEST))
    assert (again, again.id, hash(again)) == (MANIFEST, MANIFEST.id, hash(MANIFEST))


def test_id_does_not_depend_on_the_order_of_layers() -> None:
    assert Manifest("3.11", "cpython", "cp311", "linux-x86_64", LAYERS[::-1]).id == MANIFEST.id


def test_id_is_the_digest_of_bytes_that_do_not_change_between_releases() -> None:
    assert MANIFEST.canonical().startswith(b'{"abi":"cp311","implementation":"cpython","layers":[{"digest":"aaaa')
    assert MANIFEST.id == "7adbad309ed239c2e5a7233ec30fe459c87ef5f9ed78b9bbdb2354129be818df"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda data: data.pop("abi"), "manifest.abi: absent"),
        (lambda data: data.update(python=3), "manifest.python: int met, str expected"),
        (lambda data: data.update(schema=9), "manifest.schema: 9 met, 1, 2 or 3 expected"),
        (lambda data: data.update(schema=True), "manifest.schema: bool met"),
        (lambda data: data["layers"].append(1), r"manifest.layers\[2\]: int met, an object expected"),
        (lambda data: data["layers"][0].update(digest="../x"), r"manifest.layers\[0\].digest: '../x' met"),
        (lambda data: data["layers"][1].update(size_bytes=-1), r"manifest.layers\[1\].size_bytes: -1 met"),
        (lambda data: data["layers"][1].update(kind="magic"), r"manifest.layers\[1\].kind: 'magic' met"),
        (
            lambda data: data.update(python="/../../../evil"),
            r"manifest.python: '/../../../evil' met, a version such as",
        ),
        (lambda data: data.update(python="3.11\0"), r"manifest.python: '3.11\\x00' met"),
        (lambda data: data.update(abi="a/b"), r"manifest.abi: 'a/b' met"),
        (lambda data: data.update(implementation="\n"), r"manifest.implementation: '\\n' met"),
        (lambda data: data.update(platform="x" * 99), r"manifest.platform: 'x+' met"),
        (lambda data: data["layers"][0].update(name="\x1b[2J"), r"manifest.layers\[0\].name: '\\x1b\[2J' met"),
        (lambda data: data["layers"][0].update(version="1\n2"), r"manifest.layers\[0\].version: '1\\n2' met"),
    ],
)
def test_wrong_data_is_refused_with_its_place(change: Any, place: str) -> None:
    data = copy.deepcopy(MANIFEST.to_dict())
    change(data)
    with pytest.raises(ManifestFormatError, match=place):
        Manifest.from_dict(data)
