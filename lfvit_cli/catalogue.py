"""The catalogue: every network by the name one types, its family, and its published figures with their source."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Published:
    """A result on ImageNet-1k val as its authors report it.

    Attributes:
        top1: per cent.
        gmacs: 10^9 MACs an image (an expectation, for an early exit); None where the source does not say.
        source: where it stands.
    """

    top1: float
    gmacs: float | None
    source: str


@dataclass(frozen=True)
class Entry:
    """One network of the catalogue.

    Attributes:
        spec: what to type, ``NAME[:key=value,...]``.
        family: the method.
        published: its published results, the first being the one a table shows.
    """

    spec: str
    family: str
    published: tuple[Published, ...] = ()


LF_VIT, DEIT, DYNAMIC_VIT, EVO_VIT = "LF-ViT", "DeiT", "DynamicViT", "Evo-ViT"

CATALOGUE = (
    Entry("lf_deit_tiny", LF_VIT),
    Entry(
        "lf_deit_small",
        LF_VIT,
        (
            Published(79.8, 1.70, "LF-ViT, abstract: DeiT-S's accuracy at 63 % fewer MACs"),
            Published(80.8, None, "LF-ViT, README: threshold 0.76"),
        ),
    ),
    Entry("lf_deit_small:location_grid=9", LF_VIT, (Published(82.2, None, "LF-ViT, README: threshold 0.75"),)),
    Entry("lf_deit_base", LF_VIT),
    Entry("deit_tiny_patch16_224", DEIT, (Published(72.2, 1.26, "DeiT; Evo-ViT, Table 1"),)),
    Entry("deit_small_patch16_224", DEIT, (Published(79.8, 4.61, "DeiT; Evo-ViT, Table 1"),)),
    Entry("deit_base_patch16_224", DEIT, (Published(81.8, 17.58, "DeiT; Evo-ViT, Table 1"),)),
    Entry("dynamicvit_deit_tiny", DYNAMIC_VIT),
    Entry("dynamicvit_deit_small", DYNAMIC_VIT, (Published(79.3, 2.9, "DynamicViT, Table 1"),)),
    Entry("dynamicvit_deit_small:keep_ratio=0.8", DYNAMIC_VIT, (Published(79.6, 3.4, "DynamicViT, Table 1"),)),
    Entry("dynamicvit_deit_small:keep_ratio=0.9", DYNAMIC_VIT, (Published(79.8, 4.0, "DynamicViT, Table 1"),)),
    Entry("dynamicvit_deit_base", DYNAMIC_VIT),
    Entry("evo_deit_tiny_patch16_224", EVO_VIT, (Published(72.0, None, "Evo-ViT, Table 1"),)),
    Entry("evo_deit_small_patch16_224", EVO_VIT, (Published(79.4, 3.0, "Evo-ViT, Table 1"),)),
    Entry("evo_deit_base_patch16_224", EVO_VIT, (Published(81.3, None, "Evo-ViT, Table 1"),)),
)

# The four of one size that the commands compare when none is named.
SMALL = ("lf_deit_small", "deit_small_patch16_224", "dynamicvit_deit_small", "evo_deit_small_patch16_224")
REFERENCE = "deit_small_patch16_224"


def find(pattern: str = "*") -> list[Entry]:
    """Entries whose spec matches a shell pattern such as ``lf_*``, in the catalogue's order."""
    return [entry for entry in CATALOGUE if fnmatchcase(entry.spec, pattern)]
