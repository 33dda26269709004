"""Optional JSON Schemas for contexts, one per session type (row B-09)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry

from sessionfleet.errors import ValidationFailed

Schemas = Mapping[str, Draft202012Validator]
"""Session type -> what its context must look like; a type that is not named takes any object."""


def compile_schemas(documents: Mapping[str, Any]) -> dict[str, Draft202012Validator]:
    """Validators of JSON Schemas (draft 2020-12) by session type. References resolve inside a schema only,
    nothing is fetched. Raises jsonschema.SchemaError for what is no schema."""
    for document in documents.values():
        Draft202012Validator.check_schema(document)
    registry: Registry[Any] = Registry()
    return {name: Draft202012Validator(document, registry=registry) for name, document in documents.items()}


def check_context(session_type: str, context: Mapping[str, Any], schemas: Schemas) -> None:
    """Raise ValidationFailed naming the path of what fits worst, when there is a schema and it does not hold."""
    validator = schemas.get(session_type)
    if validator is None:
        return
    worst = best_match(validator.iter_errors(context))
    if worst is not None:
        path = ".".join(["context", *(str(part) for part in worst.absolute_path)])
        raise ValidationFailed.of(path, worst.message)
