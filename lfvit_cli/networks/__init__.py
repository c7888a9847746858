"""The networks: tensors in, tensors out; importing this registers them with timm."""

from lfvit_cli.networks import registry

__all__ = ["registry"]
