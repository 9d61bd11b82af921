"""What the commands of ``train`` share: the application and options that mean the same in all of them.

Torch, SimpleITK and MONAI take seconds to import: each command imports what it needs, --help nothing.
"""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scans.catalog.settings import Strict
from scans.terminal import command_line, err, out
from train.settings import SettingsError

app = command_line(
    "Learn to find tumours from a corpus of artificial ones, and use what was learned.\n\n"
    "The road: `train pretrain` (corpus to network), `train segment` (scans to masks), `train evaluate` "
    "(masks against annotations). `train adapt` and `train finetune` continue a network on real scans."
)


_TRIM, _MAP = -1, -3  # mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT, _OWN = 2**28, 2**25  # bytes that stay with the process when free, and those of a block that are mapped by itself


def ready_for_many_scans() -> None:
    """Ready the process for one scan after another; to be called before torch is imported.

    Torch's threads sleep while they wait for one another. Otherwise they spin, and on cores that have something else to
    do, such as the next scan, a network takes ten times as long. What is free after a scan stays for the next: glibc
    would give it back to the system, which clears every page of it again, a tenth of a scan's time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        keep = ctypes.CDLL(None).mallopt
        keep(_TRIM, _KEPT)
        keep(_MAP, _OWN)


CheckpointOption = Annotated[
    str, typer.Option("--checkpoint", help="A .safetensors file made by train, or hf://org/name on a hub.")
]
ShippedOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="A .safetensors file made by train, or hf://org/name on a hub; the network that comes with the software.",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        "--revision", help="Of a checkpoint on a hub: a branch, a tag, or a commit; @revision in it is the same."
    ),
]
CorpusOption = Annotated[
    list[str],
    typer.Option("--corpus", help="A corpus made by synth generate: a folder or a URL. Repeat it, one a modality."),
]
ValidationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--validation-corpus",
        help="A corpus of another generator: loss and Dice there are watched, and choose the rate and the best "
        "checkpoint where the preset lets validations choose. Repeat it as --corpus, one a modality.",
    ),
]
CacheOption = Annotated[Path | None, typer.Option(help="Folder that keeps what is read from a URL.")]
RecombineOption = Annotated[
    bool, typer.Option(help="Never the same sample twice: tumours and sources of the corpus in new pairs and places.")
]
VaryOption = Annotated[bool, typer.Option(help="The same as --variation light.")]
VariationOption = Annotated[
    str | None,
    typer.Option(
        help="none, light (mirrored, contrast, brightness, noise) or full (also turned, scaled, warped, bias field, "
        "gamma, resolution)."
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(help="robust (default), paper (Zhang et al. 2021) or none. Other options win over it."),
]
RuleOption = Annotated[
    str | None, typer.Option(help="How the learning rate falls: cosine (robust) or plateau (paper).")
]
AveragingOption = Annotated[
    float | None, typer.Option(help="Decay of the moving average of the weights (robust 0.99; 0: none).")
]
DatasetOption = Annotated[str, typer.Option("--dataset", help="A dataset of the catalog.")]
RunOption = Annotated[Path, typer.Option("--out", help="Run folder, e.g. runs/first.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps in all (pretrain 100000, adapt 2000, finetune 5000).")]
BatchOption = Annotated[int | None, typer.Option(help="Scans a step, of each process (2).")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of weights and order (0).")]
RateOption = Annotated[float | None, typer.Option(help="Learning rate of Adam (pretrain 1e-3, else 1e-4).")]
EveryOption = Annotated[
    int | None, typer.Option(help="Steps between validations (500); each one draws a picture and saves.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads that read samples ahead (2).")]
ResumeOption = Annotated[bool, typer.Option(help="Continue from the last checkpoint, if there is one.")]
WeightsOption = Annotated[
    str | None, typer.Option(help="Loss weights, e.g. l3=0,cross_entropy=1; those not named stay.")
]
PrecisionOption = Annotated[str | None, typer.Option(help="auto (default), fp32 or bf16.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")]
WidthOption = Annotated[int | None, typer.Option(help="Channels after the first convolution (32).")]
NetworkOption = Annotated[
    str | None,
    typer.Option("--network", help="unet (default, the paper's), or plainconv or resenc, which are nnU-Net's."),
]
PlansOption = Annotated[
    Path | None,
    typer.Option("--plans", help="A plan of nnU-Net's, nnUNetPlans.json, that the network fits; else it is planned."),
]
ConfigurationOption = Annotated[str, typer.Option("--configuration", help="Of that plan.")]
NormOption = Annotated[str | None, typer.Option(help="batch or instance.")]
SourcesOption = Annotated[list[str] | None, typer.Option(help="Sources kept for validation; repeat for several.")]


def named(task: str | None, dataset: str | None) -> str:
    """Return the name of a task, or of the dataset given in its place.

    Raises
    ------
    SettingsError
        If not exactly one is given.
    """
    if (task is None) == (dataset is None):
        raise SettingsError("give either --task or --dataset")
    return task or dataset or ""


def network_of(
    architecture: str | None, plans: Path | None, configuration: str, width: int | None, norm: str | None
) -> dict[str, Any]:
    """Return the settings of a network that were given, by name or by a plan of nnU-Net's.

    Raises
    ------
    SettingsError
        If the plan cannot be read, or something else was given that says otherwise.
    """
    asked = given(architecture=architecture, width=width, norm=norm)
    if plans is None:
        return asked
    from train.architectures.plans import read_plan

    planned = read_plan(plans, configuration).network()
    options = {"architecture": "--network", "width": "--width", "norm": "--norm"}
    for name, value in asked.items():
        if value != planned[name]:
            raise SettingsError(f"{options[name]} {value}: {plans} has {planned[name]}; leave it out")
    return planned


def variation_of(variation: str | None, vary: bool) -> str | None:
    """Return the variation that is asked for, in either way; None if none is.

    Raises
    ------
    SettingsError
        If they disagree.
    """
    if vary and variation not in (None, "light"):
        raise SettingsError(f"--vary is --variation light; give either it or --variation {variation}")
    return "light" if vary else variation


def preset_for(preset: str | None, folder: Path, resume: bool) -> str:
    """Return the preset to use: that which is asked for, or of the training that goes on, else ``robust``."""
    if preset is None and resume:
        from train.stages.resume import preset_of

        preset = preset_of(folder)
    return preset or "robust"


def say(line: str) -> None:
    """Print a sentence about what was decided."""
    out.print(line)


def tell(line: str) -> None:
    """Print a sentence about the work, on stderr."""
    err.print(line)


def given(**values: Any) -> dict[str, Any]:
    """Keep what was given on the command line; the rest keeps its default."""
    return {name: value for name, value in values.items() if value is not None}


def given_of(settings: type[Strict], options: dict[str, Any]) -> dict[str, Any]:
    """Keep of a command's options, by the names of its parameters, what some settings have and what was given."""
    return given(**{name: value for name, value in options.items() if name in settings.model_fields})
