"""Dataclasses that PyTorch sees as trees of tensors, so that no code walks their fields by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor
from torch.utils import _pytree as pytree

Key = tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]


@dataclass(frozen=True, eq=False)
class Tree:
    """The base of what stages answer; every subclass registers itself as a pytree when it is defined.

    Tensors (a row for each image), None, other trees, and tuples, lists and dictionaries that hold any of them are
    children. All other fields are context, which is kept as it is.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        pytree.register_pytree_node(
            cls,
            _flatten,
            lambda children, key: _unflatten(cls, children, key),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
            flatten_with_keys_fn=_flatten_with_keys,
        )

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The same for some rows only: a boolean mask (B,), row indices or a slice."""
        chosen: Self = pytree.tree_map_only(Tensor, lambda tensor: tensor[rows], self)
        return chosen

    def tensors(self) -> list[Tensor]:
        """Every tensor in it."""
        return [leaf for leaf in pytree.tree_leaves(self) if isinstance(leaf, Tensor)]


def _is_child(value: Any) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return any(map(_is_child, value))
    return value is None or isinstance(value, Tensor | Tree)


def _flatten(tree: Tree) -> tuple[list[Any], Key]:
    values = {field.name: getattr(tree, field.name) for field in fields(tree)}
    names = tuple(name for name, value in values.items() if _is_child(value))
    context = tuple((name, value) for name, value in values.items() if name not in names)
    return [values[name] for name in names], (names, context)


def _flatten_with_keys(tree: Tree) -> tuple[list[tuple[pytree.KeyEntry, Any]], Key]:
    children, key = _flatten(tree)
    return [(pytree.GetAttrKey(name), child) for name, child in zip(key[0], children, strict=True)], key


def _unflatten(kind: type[Tree], children: Iterable[Any], key: Key) -> Tree:
    names, context = key
    # Not through __init__, which may not take every field, or may check what a compiler or a map has put in its place.
    tree = object.__new__(kind)
    for name, value in (*zip(names, children, strict=True), *context):
        object.__setattr__(tree, name, value)
    return tree
