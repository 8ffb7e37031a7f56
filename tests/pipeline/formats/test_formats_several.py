"""Several files read as one data set: listed, matched by a pattern, or found in a folder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks import Verdict, check
from hydrogate.checks.data.dataset import Dataset, Quarantined
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats import files_of, join, read, read_all

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
Compare = Callable[[Dataset, Dataset], None]


def test_join_puts_files_one_after_another(
    few: Dataset, written: Written, tmp_path: Path, assert_same: Compare
) -> None:
    first, second = few.subset(range(5)), few.subset(range(5, 12))
    paths = [written(first, ".extxyz").rename(tmp_path / "a.extxyz"), written(second, ".traj")]
    joined = join([read(path) for path in paths])
    assert_same(joined, few)
    assert set(joined.source) == {"a.extxyz", "data.traj"}
    assert joined.source_index.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]
    assert joined.parent.tolist() == list(range(12))
    assert joined.to_atoms(7) == few.to_atoms(7)


def test_join_keeps_what_the_projects_files_know(few: Dataset) -> None:
    first, second = few.subset(range(6)), few.subset(range(6, 12))
    joined = join([first, second])
    assert joined.fingerprint() == few.fingerprint()


def test_join_of_periodic_and_isolated_structures(few: Dataset) -> None:
    boxed = replace(few, cell=np.tile(np.eye(3), (12, 1, 1)), pbc=np.ones((12, 3), dtype=bool))
    joined = join([few, boxed])
    assert joined.cell.shape == (24, 3, 3)
    assert joined.pbc[:, 0].tolist() == [False] * 12 + [True] * 12


def test_join_refuses_what_does_not_go_together(few: Dataset) -> None:
    unlabelled = replace(few, forces=None, source=np.full(12, "bare.xyz", dtype=object))
    with pytest.raises(UnreadableData, match=r"no forces in bare\.xyz"):
        join([few, unlabelled])
    one, two = (replace(few, isolated_atom_energies={"C": value}) for value in (-1.0, -2.0))
    assert join([one, few]).isolated_atom_energies == {"C": -1.0}
    with pytest.raises(UnreadableData, match="isolated atom C"):
        join([one, two])


def test_join_of_two_teachers_names_both(few: Dataset) -> None:
    xtb, orb = few, replace(few, teacher={"name": "orb", "method": "omol"})
    assert join([xtb, xtb]).teacher == few.teacher
    for parts in ([xtb, orb, orb], [xtb, replace(few, teacher=None)]):
        assert len(join(parts).teacher["several"]) == 2
    finding = next(f for f in check(join([xtb, orb]), "labels").findings if f.check == "teacher_identity")
    assert finding.verdict is Verdict.FAIL
    assert "structures labelled by xtb GFN2-xTB 0" in finding.message
    assert "and orb omol" in finding.message


def test_join_counts_what_was_read_only_where_all_did(few: Dataset) -> None:
    counted = replace(few, n_read=13, quarantine=(Quarantined("a.sdf", 3, "no SCF"),))
    assert join([counted, counted]).n_read == 26
    assert join([counted, few]).n_read == 0
    assert len(join([counted, few]).quarantine) == 1


def test_join_of_isolated_atoms_as_files_round_them(few: Dataset) -> None:
    one, two = (replace(few, isolated_atom_energies={"C": value}) for value in (-1.0, -1.0001))
    assert join([one, two]).isolated_atom_energies == {"C": -1.0}


def test_files_of_one_name_in_two_folders_are_told_apart(
    few: Dataset, written: Written, tmp_path: Path, assert_same: Compare
) -> None:
    paths = [tmp_path / folder / "data.hdf5" for folder in "ab"]
    for path, part in zip(paths, (few.subset(range(6)), few.subset(range(6, 12))), strict=True):
        path.parent.mkdir()
        written(part, ".hdf5").rename(path)
    data = read_all(paths)
    assert_same(data, few)
    assert data.source[0] == "a/data.hdf5/molecule-000"
    assert data.source[6] == "b/data.hdf5/molecule-000"
    assert data.parent.tolist() == few.parent.tolist()


@pytest.fixture
def shards(few: Dataset, written: Written, tmp_path: Path) -> Path:
    """Create a folder with three files of four structures each, and a file without data."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        written(few.subset(range(4 * number, 4 * number + 4)), ".extxyz").rename(folder / f"{number}.extxyz")
    (folder / "README.md").write_text("Twelve structures.")
    (folder / "deeper").mkdir()
    (folder / ".hidden.traj").write_text("")
    return folder


def test_a_folder_of_shards_and_a_pattern_that_no_shell_expanded(
    few: Dataset, shards: Path, capsys: pytest.CaptureFixture[str], assert_same: Compare
) -> None:
    assert_same(read_all([shards]), few)
    assert capsys.readouterr().err == f"{shards}: files read: 3 extxyz; ignored: README.md, deeper/\n"
    assert_same(read_all([shards / "*.extxyz"]), few)
    assert_same(read_all([shards.parent / "**" / "[0-9].extxyz"]), few)
    assert files_of([shards / "1.extxyz"]) == [shards / "1.extxyz"]
    with pytest.raises(FileNotFoundError, match=r"\*\.traj: no file matches"):
        read_all([shards / "*.traj"])
    with pytest.raises(BadParams, match=r"1\.extxyz: given twice"):
        read_all([shards, shards / "1.extxyz"])


def test_a_folder_of_several_formats_or_none(
    few: Dataset, shards: Path, written: Written, assert_same: Compare
) -> None:
    written(few, ".traj").rename(shards / "more.traj")
    with pytest.raises(BadParams, match=r"contains 3 extxyz, 1 traj; give the files, or a pattern"):
        read_all([shards])
    assert_same(read_all([shards], input_format="traj"), few)
    with pytest.raises(BadParams, match="contains no file of a known format"):
        read_all([shards], input_format="npz")
