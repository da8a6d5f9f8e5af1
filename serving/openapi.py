"""The HTTP API's description: an OpenAPI 3.1 document made from the endpoints and models served, and a page that shows it.

The page is one file without a library: it must work where nothing can be fetched from elsewhere. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

from engine import DATATYPES, ModelDescription, TensorSpec, limits
from serving.http_app import ARROW, JSON, Endpoint

_PARAMETERS: Final = {"type": ["object", "null"], "additionalProperties": {"type": ["boolean", "number", "string"]}}
_TENSOR: Final = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {
            "type": "array",
            "maxItems": limits.TENSOR_DIMENSIONS_MAX,
            "items": {"type": "integer", "minimum": 0},
        },
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "data": {
            "type": "array",
            "description": "Elements in row-major order, flat or nested.",
            "items": {"type": ["array", "boolean", "number", "string"]},
        },
        "parameters": {
            **_PARAMETERS,
            "description": "binary_data_size: bytes of this tensor's raw content after the JSON.",
        },
    },
}
_REQUESTED: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "parameters": {**_PARAMETERS, "description": "binary_data: true for raw content."},
    },
}
_SCHEMAS: Final = {
    "Tensor": _TENSOR,
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": limits.ID_CHARS_MAX},
            "inputs": {
                "type": "array",
                "maxItems": limits.INPUTS_MAX,
                "items": {"$ref": "#/components/schemas/Tensor"},
            },
            "outputs": {"type": ["array", "null"], "maxItems": limits.INPUTS_MAX, "items": _REQUESTED},
            "parameters": {
                **_PARAMETERS,
                "description": "timeout: microseconds; priority: 0 or 1 interactive, more is batch; binary_data_output: raw "
                "content for every output.",
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "parameters": {**_PARAMETERS, "description": "vireo_marks: which fallbacks stood in."},
        },
    },
    "IndexRequest": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    "ControlRequest": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": "object",
                "additionalProperties": {"type": ["boolean", "number", "string"]},
                "description": "config, when loading: JSON text in place of the model's config.pbtxt.",
            }
        },
    },
    "PushRequest": {
        "type": "object",
        "required": ["rows"],
        "properties": {
            "rows": {
                "type": "array",
                "description": "Events as {column: value}; times as ISO 8601 with a zone. Query: wait=VIEW, wait_ms=1000.",
                "items": {"type": "object"},
            }
        },
    },
    "Points": {
        "type": "object",
        "required": ["points"],
        "properties": {
            "points": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id"],
                    "properties": {
                        "id": {"type": ["integer", "string"]},
                        "vector": {
                            "type": ["array", "object"],
                            "description": "Of the only dense vector, or {name: vector}; a sparse one is {indices, values}.",
                        },
                        "payload": {"type": "object"},
                    },
                },
            }
        },
    },
    "VectorSearch": {
        "type": "object",
        "properties": {
            "vector": {"type": ["array", "object"], "description": "This, or legs that are fused."},
            "using": {"type": "string", "description": "The vector's name, where there are several."},
            "legs": {
                "type": "array",
                "items": {"type": "object", "description": "One of {dense}, {sparse}, {text}, {recommend}."},
            },
            "k": {"type": "integer", "minimum": 1, "default": 10},
            "offset": {"type": "integer", "minimum": 0},
            "filter": {"type": "object", "description": "{must, should, must_not, min_should}, as Qdrant has them."},
            "fusion": {"type": "object", "description": "{ranks: {k, weights, depth}} or {scores: {weights, depth}}."},
            "score_threshold": {"type": "number"},
            "group_by": {"type": "object", "description": "{field, size}."},
            "diversity": {"type": "object", "description": "{using, weight, candidates}."},
            "rerank": {"type": "object", "description": "{using, vectors, candidates}: late interaction."},
            "candidates": {"type": "integer"},
            "exact": {"type": "boolean"},
            "effort": {"type": "number", "description": "Times the usual lists or nodes that an index looks at."},
            "payload": {"type": ["boolean", "array"], "description": "Fields of the payload; true is all."},
            "vectors": {"type": ["boolean", "array"]},
            "explain": {"type": "boolean"},
        },
    },
    "FeaturesRequest": {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "entities": {
                "type": "array",
                "maxItems": limits.LOOKUP_ROWS_MAX,
                "items": {"type": ["integer", "string"]},
            },
            "as_of": {
                "type": ["string", "integer", "array", "null"],
                "description": "ISO 8601 with a zone or microseconds; one for all or one for each entity; null is now.",
            },
            "request": {"type": ["object", "null"], "description": "Values that come with the read, by declared name."},
            "features": {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": limits.FEATURES_MAX},
        },
    },
    "Error": {
        "type": "object",
        "properties": {"error": {"type": "string"}, "code": {"type": "string", "description": "gRPC status name"}},
    },
}
_ASKED: Final = [
    {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
    for name, text, schema in (
        ("vireo-ledger", "1: tell where the time went, in the header of the same name", {"enum": ["0", "1"]}),
        ("vireo-priority", "Whether somebody waits for the answer", {"enum": ["interactive", "batch"]}),
        ("traceparent", "W3C Trace Context", {"type": "string"}),
    )
]
_VARIABLES: Final = {
    "collection": {"type": "string"},
    "snapshot": {"type": "string"},
    "model": {"type": "string", "minLength": 1, "maxLength": limits.NAME_CHARS_MAX},
    "version": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "log": {"type": "string", "minLength": 1, "maxLength": limits.NAME_CHARS_MAX},
    "view": {"type": "string", "minLength": 1, "maxLength": limits.NAME_CHARS_MAX},
}


_ALSO_ARROW: Final = ("PushRequest", "FeaturesRequest", "Points")


def document(
    name: str, endpoints: Iterable[Endpoint], models: Sequence[ModelDescription], *, locked: bool
) -> dict[str, Any]:
    """The OpenAPI document: every endpoint, and for every model its own inference path with an example that works.

    `locked`: calls need a bearer token.
    """
    paths: dict[str, dict[str, Any]] = {}
    for model in models:
        paths[f"/v2/models/{quote(model.name, safe='')}/infer"] = {"post": _model_operation(model)}
    for each in endpoints:
        if each.offered:
            paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": version("vireo"),
            "description": "Open Inference Protocol v2 with the binary tensor data extension.",
        },
        "paths": paths,
        "security": [{"bearer": []}] if locked else [],
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": _VARIABLES[each]}
        for each in re.findall(r"{(\w+)}", endpoint.path)
    ]
    operation: dict[str, Any] = {"summary": endpoint.summary, "responses": _responses(endpoint.takes, endpoint.gives)}
    if endpoint.takes == "InferRequest":
        parameters += _ASKED
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes is not None:
        operation["requestBody"] = _request_body(endpoint.takes, None)
    if endpoint.open_to_all:
        operation["security"] = []
    return operation


def _model_operation(model: ModelDescription) -> dict[str, Any]:
    only = " (only where it gives exactly one response)" if model.streams else ""
    return {
        "summary": f"Run {model.name}{only}",
        "parameters": _ASKED,
        "requestBody": _request_body("InferRequest", example(model)),
        "responses": _responses("InferRequest", JSON),
    }


def _request_body(schema: str, shown: dict[str, Any] | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if shown is not None:
        content["example"] = shown
    also: dict[str, Any] = {ARROW: {}} if schema in _ALSO_ARROW else {}
    return {"required": schema == "InferRequest" or schema in _ALSO_ARROW, "content": {JSON: content, **also}}


def _responses(takes: str | None, gives: str) -> dict[str, Any]:
    media: dict[str, Any] = {}
    if takes == "InferRequest":
        media["schema"] = {"$ref": "#/components/schemas/InferResponse"}
    bad = {gives: {}, JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "200": {"description": "OK", "content": {gives: media}},
        "default": {"description": "An error", "content": bad},
    }


_EXAMPLE_ELEMENTS_MAX: Final = 4096


def example(model: ModelDescription) -> dict[str, Any] | None:
    """An inference body of zeros that the model takes, each free dimension 1.

    None where it would be too long to show, or where zeros may not get exactly one answer.
    """
    shapes = [
        (each, [1 if size < 0 else size for size in each.shape]) for each in model.signature.inputs if not each.optional
    ]
    if model.streams or sum(math.prod(shape) for _, shape in shapes) > _EXAMPLE_ELEMENTS_MAX:
        return None
    return {"inputs": [_example_tensor(spec, shape) for spec, shape in shapes]}


def _example_tensor(spec: TensorSpec, shape: list[int]) -> dict[str, Any]:
    zero: Any = {"BYTES": "0", "BOOL": False}.get(spec.datatype.name, 0)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype.name, "data": [zero] * math.prod(shape)}


PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>API</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
summary { cursor: pointer; padding: .25rem 0 } code, pre, textarea { font: 13px/1.4 ui-monospace, monospace }
pre, textarea { background: #f4f4f4; padding: .5rem; width: 100%; box-sizing: border-box; white-space: pre-wrap; border: 0 }
.method { display: inline-block; width: 3.5rem; font-weight: 600 } .about { color: #666; margin-left: .5rem }
input { width: 24rem }
</style></head><body>
<h1 id="title">API</h1><p id="about"></p>
<p><label>Bearer token, if the server asks for one: <input id="token" autocomplete="off"></label></p>
<p>The description itself is at <a href="openapi.json">openapi.json</a>.</p><div id="operations"></div>
<script>
const by = (id) => document.getElementById(id);
const add = (parent, name, text, kind) => {
  const made = document.createElement(name); made.textContent = text ?? ""; made.className = kind ?? "";
  parent.append(made); return made;
};
const call = async (method, path, body, asked) => {
  const token = by("token").value, headers = token ? { ...asked, authorization: `Bearer ${token}` } : asked;
  const answer = await fetch(path, { method, headers, body });
  return `${answer.status} ${answer.statusText}\\n${await answer.text()}`;
};
const show = (path, method, operation) => {
  const box = add(by("operations"), "details"), line = add(box, "summary");
  add(line, "span", method.toUpperCase(), "method"); add(line, "code", path); add(line, "span", operation.summary, "about");
  const fields = (operation.parameters ?? []).map((each) => [each, add(box, "input")]);
  for (const [each, field] of fields) field.placeholder = each.name;
  const shown = operation.requestBody?.content["application/json"].example;
  const body = method === "post" ? add(box, "textarea") : null;
  if (body) { body.rows = 8; body.value = shown ? JSON.stringify(shown, null, 1) : ""; }
  const button = add(box, "button", "Send"), answer = add(box, "pre");
  button.onclick = async () => {
    const filled = fields.reduce((text, [each, field]) => text.replace(`{${each.name}}`, encodeURIComponent(field.value)), path);
    const headers = fields.filter(([each, field]) => each.in === "header" && field.value);
    const asked = Object.fromEntries(headers.map(([each, field]) => [each.name, field.value]));
    answer.textContent = await call(method.toUpperCase(), filled, body?.value, asked).catch(String);
  };
};
const load = async () => {
  by("operations").textContent = "";
  const token = by("token").value;
  const answer = await fetch("openapi.json", { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (!answer.ok) { by("about").textContent = `openapi.json: ${answer.status}`; return; }
  const told = await answer.json();
  by("title").textContent = document.title = told.info.title; by("about").textContent = told.info.description;
  for (const [path, operations] of Object.entries(told.paths))
    for (const [method, operation] of Object.entries(operations)) show(path, method, operation);
};
by("token").onchange = load; load();
</script></body></html>
"""
