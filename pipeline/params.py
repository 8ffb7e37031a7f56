"""Schema of ``params.yaml``: safe loading into frozen pydantic models.

An unknown key is rejected, and the message names the nearest known key.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_validator

from hydrogate import models
from hydrogate.checks.declarations import Section, explain, load_yaml
from hydrogate.checks.errors import BadParams
from hydrogate.checks.gates.gates import Gate, read_gates
from hydrogate.checks.gates.milestones import Band, read_milestones
from hydrogate.checks.metrics.md_record import MdProtocol
from hydrogate.models.names import module_names, refuse_unknown

PositiveInt = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Sampling(Section):
    """Sampling of additional geometries per molecule. ``sigma`` and ``step`` in Å, ``temperature`` in K.

    ``2 * pairs`` of the ``per_structure`` geometries are the ends of displacement pairs. ``step`` is the RMS
    displacement of each end from the centre of its pair.
    """

    method: Literal["none", "rattle", "rattle_relax", "md"]
    per_structure: PositiveInt
    sigma: Positive
    # eV/Å: largest allowed force-field pull of a bond; None means no limit.
    hardest_pull: Positive | None = None
    temperature: Positive
    relax_steps: PositiveInt
    pairs: Annotated[int, Field(ge=0)]
    step: Positive

    @model_validator(mode="after")
    def _room_for_the_pairs(self) -> Self:
        if self.pairs and (self.method == "none" or 2 * self.pairs > self.per_structure):
            raise ValueError(
                f"{self.pairs} pairs need {2 * self.pairs} additional geometries, but method {self.method!r} makes "
                f"{0 if self.method == 'none' else self.per_structure} per molecule"
            )
        return self


class Split(Section):
    """Fractions of the molecules in each split; they sum to 1."""

    train: Share
    valid: Share
    test: Share
    by: Literal["molecule", "scaffold"]


class Regenerate(Section):
    """Parameters of stage ``regenerate``: SDF files to ``data/structures.h5``."""

    input: str | tuple[str, ...]
    add_hydrogens: bool
    reembed: bool
    elements: tuple[str, ...]
    sampling: Sampling
    split: Split
    seed: Annotated[int, Field(ge=0)]


def _known(kind: str, name: str) -> str:
    # The names come from the folder listing, because importing students and teachers needs torch.
    refuse_unknown(kind, name, module_names(Path(models.__file__).parent / f"{kind}s"))
    return name


class Label(Section):
    """Parameters of stage ``label``.

    ``method: null`` selects the teacher's default method, ``workers: 0`` one worker per core. ``weights`` is a file
    (Orb). ``settings`` are specific to the teacher; a setting that is not declared has the teacher's default.
    """

    teacher: str
    method: str | None
    weights: str | None
    settings: dict[str, Any] = Field(default_factory=dict)
    dipoles: bool
    workers: Annotated[int, Field(ge=0)]

    @field_validator("teacher")
    @classmethod
    def _is_known(cls, teacher: str) -> str:
        return _known("teacher", teacher)


class Compute(Section):
    """Compute resources for labelling: this machine, a Dask scheduler, or ``jobs`` jobs of a dask-jobqueue cluster.

    ``scheduler`` is the address of a running scheduler, ``cluster`` the name of a dask-jobqueue class.
    """

    scheduler: str | None = None
    cluster: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    jobs: PositiveInt = 1

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.scheduler and self.cluster:
            raise ValueError("scheduler and cluster are both set; one of them must be null")
        if self.arguments and not self.cluster:
            raise ValueError("arguments are passed to the cluster, but cluster is null")
        return self


class Loss(Section):
    """Training loss: ``energy_weight·E + force_weight·F + angular_weight·(1 − cos θ)``; no term is dropped silently."""

    force: Literal["norm", "mse"]
    energy_weight: NonNegative
    force_weight: NonNegative
    angular_weight: NonNegative
    angular_mean: Literal["atoms", "forces"]
    # None selects the student's own weight: 0 for a student that predicts no dipole.
    dipole_weight: NonNegative | None
    # Exponent: in the force term an atom has the weight (fraction of atoms of its element) ** -element_balance.
    element_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Weight of the error of the Hessian-vector products over displacement pairs, per eV/Å².
    hessian_weight: NonNegative = 0.0


class Train(Section):
    """Parameters of stage ``train``. ``sizes`` maps a student's name to its size; ``learning_rate`` is per step."""

    student: str
    sizes: dict[str, dict[str, bool | int | FiniteFloat]] = Field(alias="size")
    loss: Loss
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Positive
    warmup: Share
    weight_decay: NonNegative
    ema: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Positive
    compile: Literal["auto", "always", "never"]
    processes: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]

    @field_validator("student")
    @classmethod
    def _is_known(cls, student: str) -> str:
        return _known("student", student)

    @field_validator("sizes")
    @classmethod
    def _of_known_students(cls, sizes: dict[str, Any]) -> dict[str, Any]:
        for name in sizes:
            _known("student", name)
        return sizes

    @property
    def size(self) -> dict[str, bool | int | float]:
        """Size of ``student``; a value that is not declared has the student's default."""
        return self.sizes.get(self.student, {})


class Validate(Section):
    """Parameters of stage ``validate``: predictions for the held-out split.

    ``angular_floor`` in eV/Å; ``baseline`` is the file of earlier predictions to compare with.
    """

    split: Literal["valid", "test"]
    batch_size: PositiveInt
    angular_floor: Positive
    resamples: PositiveInt
    seed: Annotated[int, Field(ge=0)]
    baseline: str | None


class Params(Section):
    """Content of ``params.yaml``. ``hydrogate.checks`` reads the section ``contracts``."""

    regenerate: Regenerate
    label: Label
    compute: Compute = Compute()
    train: Train
    # pydantic reserves the name "validate".
    validate_: Validate = Field(alias="validate")
    dynamics: MdProtocol
    contracts: dict[str, Any]
    gates: dict[str, Gate]
    milestones: tuple[Band, ...]


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate ``path``.

    Raises
    ------
    BadParams
        The file is missing or unreadable, or a key is unknown, missing, or has the wrong type or range.
    """
    return params_of(load_yaml(path), str(path))


def params_of(content: dict[str, Any], source: str) -> Params:
    """Validate ``content``, which was read from ``source``.

    Raises
    ------
    BadParams
        A key is unknown, missing, or has the wrong type or range.
    """
    content = dict(content)
    for name, read in (("gates", read_gates), ("milestones", read_milestones)):
        if name in content:
            content[name] = read(content[name], f"{source}: {name}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise BadParams(f"{source}: {explain(error, Params)}") from error
