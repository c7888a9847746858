"""DeiT, the network that all others are compared with: timm's own vision transformer, in one stage."""

from lfvit_cli.networks.method import Method, Published, register

METHOD = register(
    Method(
        family="DeiT",
        network=None,
        models={f"deit_{size}_patch16_224": {} for size in ("tiny", "small", "base")},
        published={
            "deit_tiny_patch16_224": (Published(72.2, 1.26, "DeiT; Evo-ViT, Table 1"),),
            "deit_small_patch16_224": (Published(79.8, 4.61, "DeiT; Evo-ViT, Table 1"),),
            "deit_base_patch16_224": (Published(81.8, 17.58, "DeiT; Evo-ViT, Table 1"),),
        },
        training="the cross entropy, distilled from a teacher where one is given",
    )
)
