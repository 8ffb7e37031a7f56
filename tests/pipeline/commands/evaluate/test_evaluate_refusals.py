"""Files and options that `hydrogate evaluate` rejects, and its notes on unusual files."""

import math

from ase import Atoms
from ase.build import molecule
from ase.io import write


def test_the_same_file_twice_is_told(call, structures, forces_of, write_extxyz):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    assert "is it the same file or key?" in call("r.extxyz", "r.extxyz")[1]


def test_charges_that_the_prediction_does_not_say_are_the_references(call, forces_of, write_extxyz):
    ion = molecule("NH3") + Atoms("H", positions=[[0, 0, 1.5]])
    write_extxyz("r.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]), charge=[1, 0])
    write_extxyz("p.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]))
    write_extxyz("q.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]), charge=[-1, 0])
    status, out, _ = call("r.extxyz", "p.extxyz")
    assert status == 0 and "The prediction states no charges" in out
    status, _, err = call("r.extxyz", "q.extxyz")
    assert status == 2 and "structure 0 (H4N, r.extxyz record 0): charge differ" in err


def test_structures_that_differ_are_refused_with_the_first_difference(call, structures, forces_of, write_extxyz):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    moved = [atoms.copy() for atoms in frames]
    moved[2].positions[0] += 0.01
    swapped = [frames[0], frames[2], frames[1], frames[3]]
    other = [*frames[:3], Atoms("SiSCHHHHHH", positions=frames[3].positions[:9])]
    for name, given, says in (
        ("moved", moved, r"structure 2 (CH4, r.extxyz record 2): positions differ"),
        ("swapped", swapped, "structure 1 (H2O, r.extxyz record 1) has 3 atoms in the reference and 5"),
        ("other", other, "structure 3 (C2H6O, r.extxyz record 3): elements differ between the reference (6) and the"),
        ("short", frames[:2], "the reference has 4 structures, the prediction 2"),
    ):
        write_extxyz(f"{name}.extxyz", given, forces_of(given))
        status, out, err = call("r.extxyz", f"{name}.extxyz", "--format", "json")
        assert (status, out) == (2, ""), name
        assert says in " ".join(err.split())
        assert "Traceback" not in err


def test_what_cannot_be_used_exits_2(call, tmp_path, structures, forces_of, write_extxyz, write_own):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    write("bare.extxyz", frames, format="extxyz")
    write_own("nan.h5", frames, [force * math.nan for force in forces])
    (tmp_path / "empty.extxyz").write_text("")
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    for pair, arguments, says in (
        (("r.extxyz", "bare.extxyz"), (), "the prediction has no forces"),
        (("bare.extxyz", "r.extxyz"), (), "the reference has no forces"),
        (("nan.h5", "r.extxyz"), (), "a force of the reference is not finite"),
        (("r.extxyz", "gone.extxyz"), (), "gone.extxyz: no such file"),
        (("r.extxyz", "broken.h5"), (), "broken.h5"),
        (("empty.extxyz", "empty.extxyz"), (), "empty.extxyz"),
        (("r.extxyz", "r.extxyz"), ("--floor", "0"), "--floor 0: expected a force above 0"),
        (("r.extxyz", "r.extxyz"), ("--floor", "nan"), "--floor nan"),
        (("r.extxyz", "r.extxyz"), ("--predicted-keys", "forces=f"), "frame 0 has no 'f' for the forces"),
    ):
        status, out, err = call(*pair, *arguments)
        assert (status, out) == (2, ""), pair
        assert says in " ".join(err.split())
        assert "Traceback" not in err


def test_a_hostile_name_does_nothing_in_markdown(call, structures, forces_of, write_extxyz):
    frames, forces = structures(), forces_of(structures())
    name = "a](javascript:alert(1))<img src=x>.extxyz"
    write_extxyz(name, frames, forces)
    _, out, _ = call(name, name, "--format", "markdown")
    assert "<img" not in out and "](javascript" not in out
    assert "| metric | value |" in out


def test_where_the_error_is_of_a_student_without_error_is_refused(call, tmp_path, structures, forces_of, write_extxyz):
    path = tmp_path / "labels.extxyz"
    write_extxyz(path, structures(), forces_of(structures()))
    status, _, err = call(path, path, "--where")
    assert status == 2
    assert "no error to break down" in err


def test_structures_of_no_split_are_called_so(call, structures, forces_of, write_extxyz):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    status, _, err = call("r.extxyz", "r.extxyz", "--split", "test")
    assert status == 2 and "known: '' (no split)" in err
