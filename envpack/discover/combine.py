"""The answers for several targets as one answer: pure.

All were found in the same environment. A distribution has the strongest role that it has in any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envpack.discover.dependencies import Dependencies, Distribution, Evidence, FunctionDependencies
from envpack.values import replace

_STRENGTH = {"direct": 0, "hidden": 1, "transitive": 2, "optional": 3}


def combine(target: str, answers: Sequence[Dependencies]) -> Dependencies:
    """Put together the answers for several targets.

    Args:
        target: what they are together called.
        answers: at least one; their targets become the names of their functions.
    """
    evidence: dict[str, Evidence] = {}
    for answer in answers:
        for path, one in zip(answer.local_files, answer.local_evidence, strict=False):
            evidence.setdefault(path, one)
    files = sorted({path for answer in answers for path in answer.local_files})
    return Dependencies(
        target=target,
        python=answers[0].python,
        platform=answers[0].platform,
        functions=tuple(function for answer in answers for function in _named(answer)),
        distributions=tuple(_distributions(answers)),
        local_files=tuple(files),
        local_roots=tuple(sorted({root for answer in answers for root in answer.local_roots})),
        unresolved=tuple(sorted({item for answer in answers for item in answer.unresolved})),
        local_evidence=tuple(evidence[path] for path in files if path in evidence),
    )


def _named(answer: Dependencies) -> Iterator[FunctionDependencies]:
    return (replace(function, name=answer.target) for function in answer.functions)


def _distributions(answers: Sequence[Dependencies]) -> Iterator[Distribution]:
    found: dict[str, list[Distribution]] = {}
    for answer in answers:
        for item in answer.distributions:
            found.setdefault(item.name, []).append(item)
    for name in sorted(found):
        items = found[name]
        yield replace(
            items[0],
            role=min((item.role for item in items), key=_STRENGTH.__getitem__),
            required_by=tuple(sorted({by for item in items for by in item.required_by})),
            evidence=tuple(sorted({one for item in items for one in item.evidence})),
            extras=tuple(sorted({extra for item in items for extra in item.extras})),
        )
