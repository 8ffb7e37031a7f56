"""Tests of SO3LR against its published formulas, written again in NumPy, one atom and one pair at a time."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from numpy.typing import NDArray
from scipy.special import comb, erf, sph_harm_y

from hydrogate.models.batch import collate
from hydrogate.models.harmonics import LARGEST_DEGREE, spherical_harmonics
from hydrogate.models.pair_potentials import FREE_ATOMS, Repulsion, switched_off
from hydrogate.models.potential import Support, energy_and_forces
from hydrogate.models.students import make_student
from hydrogate.models.students.so3lr import SO3LR

Array = NDArray[np.float64]
ELEMENTS = (1, 6, 7, 8)
SUPPORT = Support(ELEMENTS, charges=(-1, 0, 1), spin_multiplicities=(1, 2, 3))
SIZE = {"features": 16, "layers": 3, "heads": 2, "degrees": 4, "radial": 12, "cutoff": 2.5, "dispersion": True}


def student(seed: int = 0, **size: float) -> SO3LR:
    """Return a student in double precision; no weight has a value, such as zero, that would hide its effect."""
    torch.manual_seed(seed)
    made = make_student("so3lr", SIZE | size, SUPPORT).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not name.startswith("repulsion"):
                parameter += 0.2 * torch.randn_like(parameter)
        made.energy_scale.fill_(1.7)
    return made


def methanol(charge: int = 1, spin: int = 2) -> Atoms:
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    atoms.info.update(charge=charge, spin=spin)
    return atoms


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def harmonics(v: Array) -> Array:
    """Return real, orthonormal harmonics, computed from SciPy's complex ones."""
    polar, azimuth = math.acos(v[2] / np.linalg.norm(v)), math.atan2(v[1], v[0])
    values = []
    for l in range(1, LARGEST_DEGREE + 1):  # noqa: E741
        for m in range(-l, l + 1):
            y = (-1) ** m * math.sqrt(2) * sph_harm_y(l, abs(m), polar, azimuth)
            values.append(y.imag if m < 0 else y.real if m else y.real / math.sqrt(2))
    return np.array(values)


def sigma(y: float) -> float:
    return math.exp(-1 / y) if y > 0 else 0.0


def off(r: float, a: float, b: float) -> float:
    t = (r - a) / (b - a)
    return sigma(1 - t) / (sigma(1 - t) + sigma(t))


def zbl(z: int, other: int, r: float) -> float:
    """Return the screened repulsion as published: Ziegler, Biersack, Littmark (1985)."""
    x = r / (0.8854 * units.Bohr / (z**0.23 + other**0.23))
    terms = zip((0.1818, 0.5099, 0.2802, 0.02817), (3.2, 0.9423, 0.4028, 0.2016), strict=True)
    screening = sum(c * math.exp(-a * x) for c, a in terms) / (0.1818 + 0.5099 + 0.2802 + 0.02817)
    return 14.39965 * z * other / r * screening


def cutoff_function(r: float) -> float:
    u = r / SIZE["cutoff"]
    return 1 - 6 * u**5 + 15 * u**4 - 10 * u**3


def dispersion(z: int, other: int, r: float) -> float:
    (a, c), (b, d) = FREE_ATOMS[z], FREE_ATOMS[other]
    mean, c6 = (a + b) / 2, 2 * c * d * a * b / (a**2 * d + b**2 * c)
    rho = 0.00729735 ** (-4 / 21) * mean ** (1 / 7)
    width = -0.00433008 + 0.24428889 * rho + 0.04125273 * rho**2 - 0.00078893 * rho**3
    gamma = 1 / (2 * width**2)
    series = {6: c6, 8: 5 * c6 / gamma, 10: 245 * c6 / (8 * gamma**2)}
    p, distance = 1.2 * 5.08 * mean ** (1 / 7), r / units.Bohr
    return -27.2114 * sum(value / (distance**n + p**n) for n, value in series.items())


def norm(x: Array, w: dict[str, Array], name: str) -> Array:
    scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x: Array, w: dict[str, Array], *names: str) -> Array:
    """Apply linear maps with SiLU between them."""
    for k, name in enumerate(names):
        x = w[f"{name}.weight"] @ (silu(x) if k else x) + w.get(f"{name}.bias", 0.0)
    return x


def whole(p: int, rows: list[int], w: dict[str, Array], name: str) -> Array:
    sign = int(p < 0)
    shares = softplus(w[f"{name}.query"][rows] @ w[f"{name}.key"][sign] / math.sqrt(SIZE["features"]))
    u = np.outer(p * shares / shares.sum(), w[f"{name}.value"][sign])
    return u + silu(silu(u) @ w[f"{name}.refine.1.weight"].T) @ w[f"{name}.refine.3.weight"].T


def by_hand(made: SO3LR, atoms: Atoms) -> tuple[float, Array, Array]:
    """Return energy above the references, charges and dipole."""
    w = {name: value.detach().numpy() for name, value in made.state_dict().items()}
    n, x, z = len(atoms), atoms.positions, atoms.numbers.tolist()
    heads, degrees, width, count = SIZE["heads"], SIZE["degrees"], SIZE["features"], SIZE["radial"]
    degree_of = np.array([l - 1 for l in range(1, degrees + 1) for _ in range(2 * l + 1)])  # noqa: E741
    length = 2 * np.arange(1, degrees + 1) + 1
    rows = [ELEMENTS.index(number) for number in z]
    edges = [(i, j) for i in range(n) for j in range(n) if i != j and np.linalg.norm(x[j] - x[i]) <= SIZE["cutoff"]]
    r = {(i, j): float(np.linalg.norm(x[j] - x[i])) for i in range(n) for j in range(n) if i != j}

    def invariants(e: Array) -> Array:
        return np.array([(e[degree_of == l] ** 2).sum() for l in range(degrees)]) / np.sqrt(length)  # noqa: E741

    def score(h: Array, e: Array, layer: str, i: int, j: int, parts: int) -> Array:
        t = math.exp(-0.944863 * r[i, j])
        b = np.array([comb(count - 1, k, exact=True) * t**k * (1 - t) ** (count - 1 - k) for k in range(count)])
        kernel = dense(b, w, f"{layer}.radial.0", f"{layer}.radial.2")
        kernel = kernel + dense(invariants(e[j] - e[i]), w, f"{layer}.directional.0", f"{layer}.directional.2")
        q = np.einsum("hc,hcd->hd", h[i].reshape(parts, -1), w[f"{layer}.query.weight"])
        k = np.einsum("hc,hcd->hd", h[j].reshape(parts, -1), w[f"{layer}.key.weight"])
        return (q * kernel.reshape(parts, -1) * k).sum(1) * cutoff_function(r[i, j]) / 13.169

    unpaired = atoms.info["spin"] - 1
    h = w["embedding.weight"][rows] + whole(atoms.info["charge"], rows, w, "of_charge")
    h = (h + whole(unpaired, rows, w, "of_spin")) / math.sqrt(3)
    e = np.zeros((n, len(degree_of)))
    for t in range(SIZE["layers"]):
        name = f"layers.{t}"
        new_h, new_e = h.copy(), e.copy()
        for i, j in edges:
            counts = score(h, e, f"{name}.invariant", i, j, heads)
            values = np.einsum("hc,hcd->hd", h[j].reshape(heads, -1), w[f"{name}.value.weight"])
            new_h[i] += (counts[:, None] * values).reshape(-1)
            turns = score(h, e, f"{name}.equivariant", i, j, degrees)
            new_e[i] += turns[degree_of] * harmonics(x[j] - x[i])
        for i in range(n):
            a = norm(new_h[i], w, f"{name}.before")
            a = a + dense(silu(a), w, f"{name}.refine.1", f"{name}.refine.3")
            exchanged = dense(np.concatenate([a, invariants(new_e[i])]), w, f"{name}.exchange")
            h[i] = norm(a + exchanged[:width], w, f"{name}.after")
            e[i] = new_e[i] * (1 + exchanged[width:][degree_of]) if t < SIZE["layers"] - 1 else new_e[i]

    energy, charges = 0.0, np.empty(n)
    for i in range(n):
        own = dense(h[i], w, "atom_energy.0", "atom_energy.2")[0] * w["energy_factor"][rows[i]]
        energy += (own + w["energy_shift"][rows[i]]) * w["energy_scale"]
        charges[i] = dense(h[i], w, "atom_charge.0", "atom_charge.2")[0] + w["charge_shift"][rows[i]]
    charges += (atoms.info["charge"] - charges.sum()) / n
    for i, j in r:
        distance = r[i, j]
        if distance <= SIZE["cutoff"]:
            energy += zbl(z[i], z[j], distance) / 2 * cutoff_function(distance) * off(distance, 0, 1.5)
        energy += 14.39965 * charges[i] * charges[j] * erf(distance / 4) / distance / 2
        energy += dispersion(z[i], z[j], distance) / 2
    return energy, charges, charges @ x


@pytest.mark.parametrize(("charge", "spin"), [(1, 2), (0, 1), (-1, 2), (0, 3)])
def test_it_is_the_published_formulas(charge: int, spin: int) -> None:
    made, atoms = student(), methanol(charge, spin)
    batch = made.collate([atoms], torch.float64)
    energy, dipole = made.interaction_energy_and_dipole(batch)
    expected_energy, expected_charges, expected_dipole = by_hand(made, atoms)
    # The constants have seven digits, and the tables of free atoms are in single precision.
    assert energy.item() == pytest.approx(expected_energy, rel=2e-6)
    assert np.allclose(made.parts(batch)[1].detach(), expected_charges, rtol=0, atol=1e-10)
    assert np.allclose(dipole.detach()[0], expected_dipole, rtol=0, atol=1e-9)


def test_harmonics_are_scipys() -> None:
    some = np.random.default_rng(0).normal(size=(50, 3))
    some = np.concatenate([some, np.eye(3), -np.eye(3)])
    unit = torch.from_numpy(some / np.linalg.norm(some, axis=1, keepdims=True))
    expected = np.array([harmonics(v) for v in some])
    for degrees in range(1, LARGEST_DEGREE + 1):
        found = spherical_harmonics(unit, degrees).numpy()
        assert np.allclose(found, expected[:, : (degrees + 1) ** 2 - 1], rtol=0, atol=1e-12)


def test_repulsion_starts_as_published() -> None:
    pair = torch.tensor([[0], [1]])
    for z, other, r in ((1, 6, 0.4), (8, 8, 0.9), (6, 16, 1.2), (1, 1, 1.6)):
        numbers, distance = torch.tensor([z, other]), torch.tensor([r], dtype=torch.float64)
        found = Repulsion().double()(numbers, distance, torch.ones_like(distance), pair)
        # A directed edge has half of the pair's energy.
        assert 2 * found.item() == pytest.approx(zbl(z, other, r) * off(r, 0, 1.5), rel=1e-6)


def test_the_switch_is_smooth_to_the_last_digit() -> None:
    for dtype in (torch.float32, torch.float64):
        r = torch.linspace(-0.5, 2.5, 3001, dtype=dtype, requires_grad=True)
        value = switched_off(r, 0.5, 1.5)
        assert (value[r < 0.5] == 1).all()
        assert (value[r > 1.5] < 1e-40).all()
        for _ in range(3):
            (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
            assert slope.isfinite().all()
            value = slope


def test_charges_add_up_to_the_total_charge() -> None:
    made = student()
    some = [methanol(charge, 2 if charge else 1) for charge in (-1, 0, 1)]
    batch = made.collate(some, torch.float64)
    charges = made.parts(batch)[1]
    sums = charges.new_zeros(3).index_add(0, batch.structure, charges)
    assert torch.allclose(sums, batch.charge.double(), rtol=0, atol=1e-13)
    assert charges.std() > 0.1


def test_charge_and_spin_are_read() -> None:
    made = student()
    some = [methanol(*state) for state in ((0, 1), (1, 1), (-1, 1), (0, 2), (0, 3))]
    energies = made.interaction_energy(made.collate(some, torch.float64)).tolist()
    assert len({round(energy, 6) for energy in energies}) == len(some)


def test_molecules_far_apart_keep_only_their_electrostatics() -> None:
    """Check that only the electrostatics between them remain, with the charges of both together."""
    made = student(dispersion=False)
    water, alcohol = molecule("H2O"), methanol(0, 1)
    alcohol.translate([25.0, 3.0, 1.0])

    def without_electrostatics(atoms: Atoms) -> float:
        parts, _ = made.parts(made.collate([atoms], torch.float64))
        return sum(float(parts[name].detach().sum()) for name in ("atoms", "repulsion"))

    both = water + alcohol
    both.info.update(charge=0, spin=1)
    parts = without_electrostatics(water) + without_electrostatics(alcohol)
    assert without_electrostatics(both) == pytest.approx(parts, abs=1e-10)

    batch = made.collate([both], torch.float64)
    charges = made.parts(batch)[1].detach().numpy()
    apart = both.get_all_distances() + np.eye(len(both))
    pairs = np.outer(charges, charges) * units.Hartree * units.Bohr * erf(apart / 4) / apart
    direct = (pairs.sum() - np.trace(pairs)) / 2
    assert made.interaction_energy(batch).item() == pytest.approx(parts + direct, abs=1e-9)
    assert abs(direct) > 1e-3


def linear() -> Atoms:
    return Atoms("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Atoms("O", [[0, 0, 0]]),
        linear,
        lambda: Atoms("H2", [[0, 0, 0], [0, 0, 0.05]]),
        lambda: Atoms("CO", [[0, 0, 0], [0, 0, 2.5]]),
        lambda: Atoms("CO", [[0, 0, 0], [0, 0, 1e5]]),
        lambda: linear() + Atoms("CO", [[9, 0, 0], [9, 0, 1.2]]),
    ],
    ids=["alone", "in line", "near", "at the cutoff", "far", "fragments"],
)
def test_second_derivatives_are_finite(make: Callable[[], Atoms], dtype: torch.dtype) -> None:
    made = student().to(dtype)
    batch = made.collate([make()], dtype)
    found = energy_and_forces(made, batch, create_graph=True)
    loss = found.forces.square().sum() + found.energy.sum() + found.dipole.square().sum()
    gradients = torch.autograd.grad(loss, list(made.parameters()))
    assert found.energy.isfinite().all()
    assert found.forces.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_batch_without_all_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="reads all pairs of atoms; collate its batches"):
        energy_and_forces(student(), collate([molecule("H2O")], 2.5, torch.float64))


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ({"degrees": 5, "features": 20}, "degrees is 5, at most 4"),
        ({"features": 18}, "18 features do not divide evenly among 4 degrees"),
        ({"heads": 3}, "16 features do not divide evenly among 3 heads"),
        ({"dispersion": 1}, "dispersion must be true or false, got 1"),
        ({"features": 2, "heads": 1, "degrees": 1}, "features is 2, at least 4"),
        ({"heads": True}, "heads must be a positive int, at most 1024, got True"),
    ],
)
def test_sizes_that_make_no_student(size: dict[str, float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_student("so3lr", SIZE | size, SUPPORT)


def test_dispersion_of_an_element_without_coefficients_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no dispersion coefficients for the elements \[14\]"):
        make_student("so3lr", SIZE, Support((1, 14)))
    assert make_student("so3lr", SIZE | {"dispersion": False}, Support((1, 14))).name == "so3lr"
