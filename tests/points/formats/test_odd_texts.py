"""Text files as other programs write them: which columns are x, y and z is understood, said, and kept."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from tests.points.formats.odd_texts import POINTS, TEXTS, table


@pytest.mark.parametrize("name", TEXTS)
def test_the_points_are_read_and_written_back(tmp_path, name):
    suffix, make = TEXTS[name]
    path, out = tmp_path / f"odd{suffix}", tmp_path / f"out{suffix}"
    path.write_bytes(make())
    cloud = read(path, lambda line: None)
    assert np.array_equal(cloud.xyz, POINTS)
    write(cloud, out)
    assert out.read_bytes() == path.read_bytes()
    moved = cloud.with_positions(cloud.xyz + 0.25)
    write(moved, out)
    back = read(out, lambda line: None)
    assert np.array_equal(back.xyz, moved.xyz)
    for key, values in cloud.attributes.items():
        assert np.array_equal(back.attributes[key], values, equal_nan=values.dtype.kind == "f")
    write(moved[[True, False, True, True]], out)
    assert np.array_equal(read(out, lambda line: None).xyz, moved.xyz[[0, 2, 3]])


def notes(tmp_path, data: bytes, suffix: str = ".csv") -> str:
    """What is said about a file when it is read."""
    lines: list[str] = []
    (tmp_path / f"odd{suffix}").write_bytes(data)
    read(tmp_path / f"odd{suffix}", lines.append)
    return "\n".join(lines)


def test_it_is_said_which_columns_were_taken(tmp_path):
    assert notes(tmp_path, table("{x} {y} {z} {i}"), ".txt") == ""
    assert notes(tmp_path, table("{x},{y},{z},{i}", "X,Y,Z,n")) == ""
    said = notes(tmp_path, table("{i},{y},{x},{z}", "Point,Northing,Easting,Elevation"))
    assert said.endswith("odd.csv: x, y, z are Easting, Northing, Elevation (columns 3, 2, 4)")
    said = notes(tmp_path, table("{i},{x},{y},{z},GRD"))
    assert "column 1 holds consecutive whole numbers; x, y, z are taken to be columns 2, 3, 4; --columns" in said
    said = notes(tmp_path, table("{x},{y},{z}", "a,b,c"))
    assert "no column is named x, y, z; x, y, z are taken to be a, b, c (columns 1, 2, 3)" in said


def test_a_person_chooses_the_columns(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_bytes(table("{x},{i},{y},{z}", "a,b,c,d"))
    for columns in ({"x": 1, "y": 3, "z": 4}, {"x": "a", "y": "3", "z": "D"}):
        assert np.array_equal(read(path, pytest.fail, columns).xyz, POINTS)
    for columns, word in [
        ({"x": 1, "y": 3, "z": 9}, "has no column '9' for z; it has columns 1 to 4, named a, b, c, d"),
        ({"x": 1, "y": 3, "z": "3"}, "takes one column twice"),
        ({"x": 1, "y": 3}, "name a column for each of x, y and z"),
    ]:
        with pytest.raises(ScanError, match=word):
            read(path, pytest.fail, columns)
    write(Cloud(POINTS), tmp_path / "odd.ply")
    with pytest.raises(ScanError, match="--columns is for text"):
        read(tmp_path / "odd.ply", pytest.fail, {"x": 1, "y": 2, "z": 3})


@pytest.mark.parametrize(
    ("suffix", "data", "word"),
    [
        (".xyz", b"1 2 3\n4 5 6\n7\n", r"line 3 has 1 value, the others 3 \(the last line is cut off\?\)"),
        (
            ".xyz",
            b"# a\n1 2 3\n4 5\n7 8 9\n1 2 3\n",
            r"line 3 has 2 values, the others 3 \(mend or delete the line\?\)",
        ),
        (".csv", b"x,y,z\n1,2,3\n4,?,6\n7,8,9\n" + b"1,2,3\n" * 2000, r"line 3, column 2: '\?' is no number"),
        (".csv", b"x,y,label\n1,2,3\n4,5,6\n", "names columns 'x' and 'y' and none for z"),
        (".asc", b"ncols 4\nnrows 2\nxllcorner 0\n1 2 3 4\n5 6 7 8\n", "is a raster"),
        (".csv", b"x,y,z,n\n1,2,a,1\n1,2,b,1\n", "column 3, taken as z, holds words"),
        (".xyz", b"1 2 3\n" * 20 + b"1 2 n/a\n", "point 21 has 'n/a' in column 3, where the others have numbers"),
        (".csv", b"z,x,y\n" + b"1,2,3\n" * 9 + b"-,1,2\n", "point 10 has '-' in column 1, where the others"),
        (".txt", b"a b c\nd e f\n", "no line of x, y and z"),
        (
            ".csv",
            b"451,05,5412,25,312,07\n452,15,5413,02,313,50\n",
            "seem to be decimal marks and to separate columns too",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_line(tmp_path, suffix, data, word):
    (tmp_path / f"odd{suffix}").write_bytes(data)
    with pytest.raises(ScanError, match=word):
        read(tmp_path / f"odd{suffix}", lambda line: None)


def test_written_text_keeps_the_file_s_manners(tmp_path):
    path, out = tmp_path / "odd.csv", tmp_path / "out.csv"
    path.write_bytes(b"x, y, z, name\n1.5, 2.5, 3.5, a\n")
    write(read(path).with_positions(np.array([[1.5, 2.75, 3.5]])), out)
    assert out.read_bytes() == b"x, y, z, name\n1.5, 2.75, 3.5, a\n"
    path.write_bytes("1,5;2,5;3,5;a.b\n".encode("utf-16"))
    write(read(path).with_positions(np.array([[1.5, 2.75, 3.5]])), out)
    assert out.read_bytes() == "1,5;2,75;3,5;a.b\n".encode("utf-16")


@pytest.mark.parametrize("head", [b"x;y;z;t\r999999999", b"x;y;z;" + b"t" * 200_000])
def test_a_header_that_is_no_csv_is_passed_over(tmp_path, head):
    (tmp_path / "odd.csv").write_bytes(head + b"\n" + b"".join(b"%d;4;5;6\r\n" % i for i in range(9)))
    assert len(read(tmp_path / "odd.csv", lambda line: None)) == 9
