"""Lists that the original writes as Python text: convolution layers and class labels. Parsed, never evaluated."""

import ast
from typing import Any

Layer = tuple[int, int, int]  # filters, kernel, stride
MAX_TEXT = 100_000
MAX_LAYERS = 64


def parse_layers(text: Any) -> tuple[Layer, ...]:
    """(filters, kernel, stride) of every layer from text such as '[(512, 10, 5)] + [(512, 3, 2)] * 3'.

    Lists of triples of numbers, joined by + and repeated by *, are understood; ValueError for all else.
    """
    if isinstance(text, (list, tuple)):
        text = repr([tuple(layer) if isinstance(layer, (list, tuple)) else layer for layer in text])
    layers = _layers(_expression(text))
    if not layers:
        raise ValueError("no layers in it")
    return tuple(layers)


def parse_labels(text: Any) -> list[str]:
    """The labels in text such as "['cc', 'sn']"; a list is taken as it is. ValueError for all else."""
    labels = text
    if not isinstance(text, (list, tuple)):
        node = _expression(text)
        if not isinstance(node, (ast.List, ast.Tuple)):
            raise ValueError("not a list of labels")
        labels = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
    if not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise ValueError("not a list of labels")
    return list(labels)


def write_layers(layers: tuple[Layer, ...]) -> str:
    """The text that `parse_layers` reads back."""
    return repr([tuple(layer) for layer in layers])


def _expression(text: Any) -> ast.expr:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ValueError("not a list written as text")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("not a list written as text") from None


def _layers(node: ast.expr, depth: int = 0) -> list[Layer]:
    layers: list[Layer] | None = None
    if isinstance(node, ast.List):
        layers = [_layer(item) for item in node.elts[: MAX_LAYERS + 1]]
    elif isinstance(node, ast.BinOp) and depth <= MAX_LAYERS:
        if isinstance(node.op, ast.Add):
            layers = _layers(node.left, depth + 1) + _layers(node.right, depth + 1)
        elif isinstance(node.op, ast.Mult):
            listed, factor = (
                (node.left, node.right) if isinstance(node.right, ast.Constant) else (node.right, node.left)
            )
            layers = _layers(listed, depth + 1) * min(_integer(factor), MAX_LAYERS + 1)
    if layers is None:
        raise ValueError("only lists of (filters, kernel, stride) with + and * are understood")
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"more than {MAX_LAYERS} layers")
    return layers


def _layer(node: ast.expr) -> Layer:
    if not isinstance(node, (ast.Tuple, ast.List)) or len(node.elts) != 3:
        raise ValueError("a layer is (filters, kernel, stride)")
    filters, kernel, stride = (_integer(item) for item in node.elts)
    return filters, kernel, stride


def _integer(node: ast.expr) -> int:
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        raise ValueError("only whole numbers are understood")
    return node.value
