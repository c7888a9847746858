"""``lfvit bench`` with one model more: ``plain_lf_deit_small``, LF-ViT without the runtime's economies."""

import networks.plain_lf_vit  # noqa: F401  # registers the model with timm

from lfvit_cli.app import main

if __name__ == "__main__":
    main()
