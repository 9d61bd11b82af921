"""Every setting of a training, once, with the source of its default.

``Zhang`` is Zhang et al., "Self-supervised Tumor Segmentation through Layer Decomposition", 2021;
``method`` is ``docs/method.md``; ``Genesis`` is Zhou et al., "Models Genesis", 2019; ``measured`` is
``docs/defaults.md``.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_serializer, model_validator

from scans.catalog.region import TUMOUR_SHARE
from scans.catalog.settings import Strict, one_line
from scans.errors import CheckpointError, UserError

S = TypeVar("S", bound=Strict)


class SettingsError(UserError):
    """A setting of a training is not as it must be."""


ArchitectureName = Literal["unet", "plainconv", "resenc"]
Count = Annotated[int, Field(ge=1, le=16)]
Features = Annotated[int, Field(ge=1, le=2048)]
Stride = tuple[Literal[1, 2, 4], Literal[1, 2, 4], Literal[1, 2, 4]]
Kernel = tuple[Literal[1, 3, 5, 7], Literal[1, 3, 5, 7], Literal[1, 3, 5, 7]]


class Topology(Strict):
    """The stages of one of nnU-Net's networks, the finest first; see ``train.architectures.planner``."""

    features: tuple[Features, ...] = Field(min_length=2, max_length=12)  # channels of each stage
    strides: tuple[Stride, ...]  # (z, y, x), into each stage
    kernels: tuple[Kernel, ...]  # (z, y, x), voxels
    blocks: tuple[Count, ...]  # convolutions of a stage on the way down, or with resenc residual blocks
    up_blocks: tuple[Count, ...]  # convolutions of each step up, the coarsest first
    axes: tuple[int, int, int] = (0, 1, 2)  # of z, y, x, in the order that nnU-Net's plan has them

    @model_validator(mode="after")
    def _fits(self) -> "Topology":
        stages = len(self.features)
        for name, wanted in (("strides", stages), ("kernels", stages), ("blocks", stages), ("up_blocks", stages - 1)):
            if len(getattr(self, name)) != wanted:
                raise ValueError(f"{stages} stages need {wanted} {name}, there are {len(getattr(self, name))}")
        if self.strides[0] != (1, 1, 1):
            raise ValueError("the first stage must keep the voxels of the scan: strides (1, 1, 1)")
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"axes {self.axes}: must name 0, 1 and 2 once each")
        return self


class Network(Strict):
    """The network; see ``train.network.unet`` and, for encoder and decoder, ``train.architectures``."""

    architecture: ArchitectureName = "unet"  # Zhang, Sec. IV-C; the others are nnU-Net's
    topology: Topology | None = None  # of nnU-Net's; None: planned from the corpus
    width: int = Field(32, ge=1, le=256)  # Genesis: 32 channels after the first convolution, about 19 M parameters
    norm: Literal["batch", "instance"] = "batch"  # Zhang, Sec. IV-C; method, settled 8
    in_channels: int = Field(1, ge=1, le=64)  # modalities; a record of more is damaged or means harm
    classes: int = Field(1, ge=1, le=64)  # masks; more than one in fine-tuning alone
    mirror: Literal["x", "y", "z"] | None = None  # axis of the mirror image that each modality is seen beside
    mask_bias: float = -2.0  # initial logit of the mask, measured: starts it sooner; 0: as torch would

    @model_validator(mode="after")
    def _fits(self) -> "Network":
        if self.architecture == "unet" and self.topology is not None:
            raise ValueError("topology: is of nnU-Net's networks, plainconv and resenc, not of unet")
        return self

    @model_serializer(mode="wrap")
    def _plainly(self, dump: Callable[["Network"], dict[str, Any]]) -> dict[str, Any]:
        # Of the paper's network nothing tells that there are others: its checkpoints keep their bytes.
        hidden = ("architecture", "topology") if self.architecture == "unet" else ()
        return {name: value for name, value in dump(self).items() if name not in hidden}


class Loss(Strict):
    """Weights of the loss terms; see ``train.network.losses``."""

    l0: float = Field(1.0, ge=0)  # Zhang, Eq. 10: normal layer
    l1: float = Field(1.0, ge=0)  # Zhang, Eq. 10: tumour layer
    l2: float = Field(1.0, ge=0)  # Zhang, Eq. 10: soft Dice of the mask
    l3: float = Field(1.0, ge=0)  # Zhang, Eq. 10: composition of the layers
    cross_entropy: float = Field(1.0, ge=0)  # not in Zhang: voxel cross-entropy of the mask, starts the mask sooner
    entropy: Literal["mean", "balanced"] | None = None  # None: balanced for patches (docs/liver.md)
    form: Literal["emphasised", "plain"] = "emphasised"  # method: l0 and l1 once more, inside the mask alone


def loss_of(loss: Loss, patch: int | None) -> Loss:
    """Return the loss with what depends on whether patches are shown decided."""
    return loss.model_copy(update={"entropy": "balanced"}) if patch and loss.entropy is None else loss


class Schedule(Strict):
    """How long, how fast, how often, on what."""

    steps: int = Field(100_000, ge=1)
    batch: int = Field(2, ge=1)  # of each process; Zhang, Sec. IV-C
    seed: int = Field(0, ge=0, lt=2**63)
    learning_rate: float = Field(1e-3, gt=0)  # Zhang, Sec. IV-C
    betas: tuple[float, float] = (0.9, 0.999)  # Zhang, Sec. IV-C
    epsilon: float = Field(1e-8, gt=0)  # Zhang, Sec. IV-C
    warmup_steps: int = Field(0, ge=0)  # steps over which the learning rate rises from 0
    rate_rule: Literal["plateau", "cosine"] = "plateau"  # Zhang, Sec. IV-C; cosine: see train.network.averaging
    plateau_factor: float = Field(0.5, gt=0, lt=1)  # Genesis; Zhang names ReduceLROnPlateau, not its numbers
    plateau_patience: int = Field(10, ge=0)  # validations without a better loss, torch's default
    averaging: float = Field(0.0, ge=0, lt=1)  # decay a step of the moving average of the weights; 0: none
    chosen: Literal["score", "last"] = "score"  # best.safetensors: of the best validation, or of the last one
    checkpoint_every: int = Field(500, ge=1)  # steps between validations; each one saves
    log_every: int = Field(10, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on a GPU; on a CPU it takes 40 s and gains little, measured
    loader_threads: int = Field(2, ge=1, le=64)


class Genesis(Strict):
    """Models Genesis; probabilities, and numbers, of the authors' code."""

    flip: float = Field(0.4, ge=0, le=1)  # of one more flip along a random axis, three at the most
    shuffle: float = Field(0.5, ge=0, le=1)
    windows: int = Field(10_000, ge=1, le=100_000)  # that are shuffled
    nonlinear: float = Field(0.9, ge=0, le=1)
    paint: float = Field(0.9, ge=0, le=1)
    inner: float = Field(0.2, ge=0, le=1)  # of what is painted; the rest is painted outside of windows


class Jigsaw(Strict):
    """3D jigsaw."""

    permutations: int = Field(100, ge=2, le=702)  # ours


class ImplicitField(Strict):
    """3D implicit field; all numbers are ours."""

    latent: int = Field(128, ge=1, le=4096)
    width: int = Field(256, ge=1, le=4096)
    layers: int = Field(5, ge=1, le=32)
    frequencies: int = Field(6, ge=0, le=16)  # octaves of the positional encoding, the first a period of a side
    points: int = Field(16_384, ge=1, le=2**22)  # of a scan, each step
    prior: float = Field(1e-3, ge=0)  # weight of the latents' mean square
    restore_steps: int = Field(200, ge=1, le=100_000)  # that fit a latent to a scan
    restore_points: int = Field(2048, ge=1, le=2**22)  # of the scan, each of them
    restore_rate: float = Field(1e-2, gt=0)


LAYERS = "layers"  # the name of layer decomposition among the proxies
ProxyName = Literal["layers", "genesis", "patch_location", "jigsaw", "rotation", "implicit_field", "asc_net"]
FINDS_MASK = (LAYERS, "implicit_field", "asc_net")  # the others learn an encoder alone


PresetName = Literal["robust", "paper", "none"]
VariationName = Literal["none", "light", "full"]


class Stage(Strict):
    """What pretraining and adaptation have in common."""

    preset: PresetName = "none"  # what these settings began as, for people; see train.presets
    variation: VariationName = "none"  # of each synthetic sample; see train.data.variation

    @model_validator(mode="before")
    @classmethod
    def _modern(cls, values: Any) -> Any:
        return modern(values) if isinstance(values, dict) else values


class Pretrain(Stage):
    """``train pretrain``."""

    proxy: ProxyName = "layers"
    genesis: Genesis = Genesis()
    jigsaw: Jigsaw = Jigsaw()
    implicit_field: ImplicitField = ImplicitField()
    network: Network = Network()
    loss: Loss = Loss()
    schedule: Schedule = Schedule()
    validation_sources: tuple[str, ...] = ()  # empty: a tenth of the sources, at least one, drawn by the seed
    validation_samples: int = Field(32, ge=1)
    standardise: bool = False  # each composite by its own mean and deviation, as a real scan is
    recombine: bool = False  # endless new samples of the corpus's tumours and sources, instead of its own again
    patch: int | None = Field(None, ge=16, le=512, multiple_of=8)  # side of the patches trained on; None: whole cubes
    tumour_share: float = Field(TUMOUR_SHARE, ge=0, le=1)  # of patches around a tumour, see train.data.patches


class Adapt(Stage):
    """``train adapt``: layer decomposition of real scans without annotations (last row of Table VI)."""

    loss: Loss = Loss()  # of the synthetic part
    schedule: Schedule = Schedule(steps=2_000, learning_rate=1e-4)
    real_share: float = Field(0.5, gt=0, le=1)  # of each batch; Zhang does not say
    real_weight: float = Field(1.0, ge=0)  # of l3 on real scans
    self_training: float = Field(0.0, ge=0)  # weight of the loss on what the first network is sure of; 0: off
    confidence: float = Field(0.9, gt=0.5, lt=1)  # least probability of what counts as sure
    validation_sources: tuple[str, ...] = ()
    validation_samples: int = Field(32, ge=1)
    standardise: bool = False
    recombine: bool = False


class Finetune(Strict):
    """``train finetune``: Dice loss on annotated scans."""

    network: Network = Network()  # of a network from scratch; a checkpoint brings its own
    schedule: Schedule = Schedule(steps=5_000, learning_rate=1e-4)  # Zhang, Sec. IV-C
    folds: int = Field(3, ge=2)  # of a dataset's cases, Zhang, Sec. IV-B; a task of the catalog says its own
    fold: int = Field(0, ge=0)
    fraction: float = Field(1.0, gt=0, le=1)  # of the training folds, Zhang, Table III
    augment: Literal["nnunet", "mirror", "none"] = "nnunet"  # method: nnU-Net's; see train.cases.augment


def modern(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of pretraining or adaptation as today's release names them.

    ``vary``, yes or no, was there before there were several kinds of variation.
    """
    if "vary" not in values:
        return values
    rest = {name: value for name, value in values.items() if name != "vary"}
    return {"variation": "light" if values["vary"] else "none", **rest}


def validated(model: type[S], values: object, where: str) -> S:
    """Build settings from plain values.

    Raises
    ------
    SettingsError
        Naming in one line every value that is not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{where}: {one_line(error)}") from error


def parse_weights(text: str | None) -> dict[str, Any]:
    """Read ``--loss-weights``, e.g. ``l3=0,cross_entropy=1``: the weights that it names.

    Raises
    ------
    SettingsError
    """
    names, values = Loss().model_dump(), dict[str, object]()
    for item in filter(None, (text or "").split(",")):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or name not in names:
            raise SettingsError(f"--loss-weights {item!r}: write name=number with a name of {', '.join(names)}")
        values[name] = value
    return validated(Loss, values, "--loss-weights").model_dump(include=set(values))


def with_modalities(network: Network, count: int, classes: int = 1) -> Network:
    """Return a network's settings for another number of input modalities, and of classes.

    Raises
    ------
    SettingsError
        If there are too many.
    """
    values = {**network.model_dump(), "in_channels": count, "classes": classes}
    return validated(Network, values, f"{count} modalities, {classes} classes")


def recorded(model: type[S], values: object, where: str) -> S:
    """Build settings from what a checkpoint recorded.

    Raises
    ------
    CheckpointError
        If the checkpoint holds a setting this release does not know.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"{where}: its settings do not fit this release of layered-tumors ({one_line(error)})"
        ) from error
