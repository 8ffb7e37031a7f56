"""``params.yaml``, read safely into frozen models; an unknown key is refused with the nearest known one."""

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
    """Further geometries per molecule. ``sigma`` and ``step`` in Å, ``temperature`` in K.

    ``2 * pairs`` of the ``per_structure`` geometries are displacement pairs, ``step`` the RMS displacement of an end.
    """

    method: Literal["none", "rattle", "rattle_relax", "md"]
    per_structure: PositiveInt
    sigma: Positive
    # eV/Å, of a bond by its force field; None is any.
    hardest_pull: Positive | None = None
    temperature: Positive
    relax_steps: PositiveInt
    pairs: Annotated[int, Field(ge=0)]
    step: Positive

    @model_validator(mode="after")
    def _room_for_the_pairs(self) -> Self:
        if self.pairs and (self.method == "none" or 2 * self.pairs > self.per_structure):
            raise ValueError(
                f"{self.pairs} pairs take {2 * self.pairs} further geometries, and method {self.method!r} makes "
                f"{0 if self.method == 'none' else self.per_structure} of each molecule"
            )
        return self


class Split(Section):
    """Shares of the molecules; they sum to one."""

    train: Share
    valid: Share
    test: Share
    by: Literal["molecule", "scaffold"]


class Regenerate(Section):
    """SDF files to ``data/structures.h5``."""

    input: str | tuple[str, ...]
    add_hydrogens: bool
    reembed: bool
    elements: tuple[str, ...]
    sampling: Sampling
    split: Split
    seed: Annotated[int, Field(ge=0)]


def _known(kind: str, name: str) -> str:
    # Read from the folder's names, since students and teachers themselves need torch.
    refuse_unknown(kind, name, module_names(Path(models.__file__).parent / f"{kind}s"))
    return name


class Label(Section):
    """Labels by the teacher. ``method: null`` is its default, ``workers: 0`` one a core, ``weights`` a file (Orb).

    ``settings`` are the teacher's own; what is not declared has the teacher's default.
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
    """Who labels: this machine, the scheduler at an address, or ``jobs`` jobs of a cluster class of dask-jobqueue."""

    scheduler: str | None = None
    cluster: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    jobs: PositiveInt = 1

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.scheduler and self.cluster:
            raise ValueError("scheduler and cluster are both given; one of them must be null")
        if self.arguments and not self.cluster:
            raise ValueError("arguments are those of a cluster, and cluster is null")
        return self


class Loss(Section):
    """``energy_weight·E + force_weight·F + angular_weight·(1 − cos θ)``; none is dropped silently."""

    force: Literal["norm", "mse"]
    energy_weight: NonNegative
    force_weight: NonNegative
    angular_weight: NonNegative
    angular_mean: Literal["atoms", "forces"]
    # None is the student's own weight, and zero for one that predicts no dipole.
    dipole_weight: NonNegative | None
    # Exponent: atoms of an element weigh (its share of the atoms) ** -element_balance in the force term.
    element_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Of the Hessian-vector products of the displacement pairs, per eV/Å².
    hessian_weight: NonNegative = 0.0


class Train(Section):
    """The student and its training. ``sizes`` of each student, by its name; ``learning_rate`` per step."""

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
        """The sizes of ``student``; what is not declared has its own default."""
        return self.sizes.get(self.student, {})


class Validate(Section):
    """Predictions for the held-out split. ``angular_floor`` in eV/Å; ``baseline`` the predictions to compare with."""

    split: Literal["valid", "test"]
    batch_size: PositiveInt
    angular_floor: Positive
    resamples: PositiveInt
    seed: Annotated[int, Field(ge=0)]
    baseline: str | None


class Params(Section):
    """All of ``params.yaml``. ``contracts`` is read by ``hydrogate.checks``."""

    regenerate: Regenerate
    label: Label
    compute: Compute = Compute()
    train: Train
    # "validate" is a name of pydantic's own.
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
        Missing, unreadable, or a key is unknown, absent or of the wrong type or range.
    """
    return params_of(load_yaml(path), str(path))


def params_of(content: dict[str, Any], source: str) -> Params:
    """``content``, which is that of ``source``, validated.

    Raises
    ------
    BadParams
        A key is unknown, absent or of the wrong type or range.
    """
    content = dict(content)
    for name, read in (("gates", read_gates), ("milestones", read_milestones)):
        if name in content:
            content[name] = read(content[name], f"{source}: {name}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise BadParams(f"{source}: {explain(error, Params)}") from error
