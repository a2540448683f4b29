"""Signatures read from the source are those that Python has."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest
from hydra.utils import get_object

from semiseg.arguments import is_plain, plain_hints
from semiseg.config.signatures import parameters
from semiseg.config.trust import LIBRARIES, allowed_targets

TARGETS = sorted(allowed_targets() - LIBRARIES)


@pytest.mark.parametrize("target", TARGETS)
def test_a_signature_is_read_as_python_has_it(target: str) -> None:
    constructor = get_object(target)
    signature = inspect.signature(constructor)
    known = parameters(target)
    assert list(known) == list(signature.parameters)
    assert {n for n, p in known.items() if p.required} == {
        n for n, p in signature.parameters.items() if p.default is p.empty
    }
    plain = {n: str(p.hint) for n, p in known.items() if is_plain(p.hint)}  # FieldInfo has no equality
    assert plain == {n: str(hint) for n, hint in plain_hints(constructor).items()}
    function = constructor.__init__ if isinstance(constructor, type) else constructor
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    for name, parameter in known.items():
        optional = type(None) in typing.get_args(hints[name])
        assert parameter.allows_none == (optional or hints[name] is type(None))
    for name, p in signature.parameters.items():
        if isinstance(p.default, (bool, int, float, str, type(None))):
            assert known[name].default == p.default and known[name].has_default
        elif isinstance(p.default, tuple):
            assert known[name].default == list(p.default)
        else:
            assert not known[name].has_default


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from semiseg.config.signatures import parameters\n"
        f"for t in {TARGETS!r}: parameters(t)\n"
        "print({'torch', 'numpy', 'cv2', 'pytorch_lightning'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_an_unknown_target_is_told() -> None:
    with pytest.raises(LookupError, match="no Nothing"):
        parameters("semiseg.methods.unimatch.Nothing")
    with pytest.raises(LookupError, match="no module"):
        parameters("os.system")
