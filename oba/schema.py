"""The JSON schema of study files, for editors: that of the typed study, with what a file may leave out."""

from __future__ import annotations

from typing import Any

from oba import registry
from oba.config import PARTS, Study
from oba.options import part


def study_schema() -> dict[str, Any]:
    """Return the JSON schema of study files.

    Returns:
        The schema: models and methods may be bare names, and what they leave out comes from the study's own sections;
        the parts of a method are registered names, or mappings with the options that the entry declares.
    """
    schema = Study.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    definitions["ModelConfig"]["required"] = ["name"]
    definitions["SweepMethod"]["required"] = ["criterion"]
    definitions["SweepMethod"]["properties"]["finetune"] = _partly(definitions["FinetuneConfig"])
    own = definitions["ModelConfig"]["properties"]
    own["dense"], own["structures"] = _partly(definitions["DenseConfig"]), _partly(definitions["StructuresConfig"])
    for key, entry in (("models", "ModelConfig"), ("methods", "SweepMethod")):
        schema["properties"][key]["items"] = {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{entry}"}]}
    for kind in PARTS:
        definitions[kind] = _choice(kind)
        for section in ("SweepMethod", "MethodDefaults"):
            described = definitions[section]["properties"][kind]
            if kind != "criterion" or section == "SweepMethod":
                text = {key: described[key] for key in ("description", "default") if key in described}
                definitions[section]["properties"][kind] = {"$ref": f"#/$defs/{kind}", **text}
    definitions.pop("Choice", None)
    return schema


def _partly(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section of which every key may be missing."""
    return {key: value for key, value in section.items() if key != "required"}


def _choice(kind: str) -> dict[str, Any]:
    """Return what may stand for one part of a method: a name, or an entry's name with its own options."""
    kinds = ["allocation", "weight allocation"] if kind == "allocation" else [kind]
    named = [(of, name) for of in kinds for name in registry.names(of)]
    entries = []
    for of, name in named:
        options = part(of, name).options_type.model_json_schema()
        properties = {"name": {"const": name}, **options.get("properties", {})}
        entries.append({
            "type": "object",
            "properties": properties,
            "required": ["name"],
            "additionalProperties": False,
        })
    return {"anyOf": [{"enum": sorted({name for _, name in named})}, *entries]}
