"""Makers of text files as surveying programs, robots and spreadsheets export them; each holds the points of `POINTS`."""

from collections.abc import Callable

import numpy as np

POINTS = np.array(
    [
        [451232.990, 5412343.979, 312.25],
        [451233.125, 5412344.500, 312.0],
        [451230.750, 5412345.875, -1.5],
        [451229.0625, 5412340.125, 313.125],
    ]
)
"""What every file holds, [4, 3]."""


def table(line: str, head: str = "", points: np.ndarray = POINTS, end: str = "\n") -> bytes:
    """Lines of text by a format of i (from 1), x, y, z."""
    rows = [line.format(i=i + 1, x=x, y=y, z=z) for i, (x, y, z) in enumerate(points.tolist())]
    return (end.join([*([head] if head else []), *rows]) + end).encode()


def german(line: str, head: str = "") -> bytes:
    """The same with decimal commas."""
    return table(line, "", POINTS).replace(b".", b",") if not head else head.encode() + b"\n" + german(line)


def fortran() -> bytes:
    """Exponents as Fortran's D format writes them."""
    rows = [" ".join(f"{value:.16E}".replace("E", "D") for value in row) for row in POINTS.tolist()]
    return "\n".join(rows).encode()


TEXTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "number, northing, easting, elevation, code": (".txt", lambda: table("{i},{x!r},{y!r},{z!r},GRD")),
    "header in words": (".csv", lambda: table("{i},{x!r},{y!r},{z!r},GRD", "Point,Easting,Northing,Elevation,Code")),
    "header in another order": (".csv", lambda: table("{i},{y!r},{x!r},{z!r}", "No.,Northing,Easting,Elev")),
    "header in German": (".csv", lambda: table("P{i};{z!r};{x!r};{y!r}", "Punkt;Höhe;Rechtswert;Hochwert")),
    "header in German, Latin-1": (
        ".csv",
        lambda: table("{i};{x!r};{y!r};{z!r}", "Nr;Rechtswert;Hochwert;Höhe").decode().encode("latin1"),
    ),
    **{
        f"header in {language}": (
            ".csv",
            lambda head=head: head.encode() + b"\n" + table("{i};{z!r};{y!r};{x!r}"),
        )
        for language, head in {
            "Polish": "Nr punktu;Wysokość [m];Północ;Wschód",
            "Czech": "Číslo bodu;Výška;Sever;Východ",
            "Slovene": "Točka;Višina;Sever;Vzhod",
            "Croatian": "Broj točke;Visina;Sjever;Istok",
            "Russian": "Номер;Высота;Север;Восток",
            "Danish": "Punktnr.;Højde;Nord;Øst",
            "Swedish": "Punkt;Höjd;Nordlig koordinat;Ostlig koordinat",
            "Norwegian": "Punkt-ID;Høyde;Nord-koordinat;Øst-koordinat",
            "Finnish": "Piste;Korkeus;Pohjoinen;Itä",
        }.items()
    },
    "a number named in Finnish, the others not": (
        ".csv",
        lambda: table("{i}7;{x!r};{y!r};{z!r}", "Pisteen numero;A;B;C"),
    ),
    "header in one letter": (".txt", lambda: table("{i} {x!r} {y!r} {z!r}", "P E N H")),
    "header in quotes": (".csv", lambda: table('"{i}",{x!r},{y!r},{z!r}', '"id","X","Y","Z"')),
    "header with units": (".csv", lambda: table("{z!r},{x!r},{y!r}", "Z [m],X [m],Y [m]")),
    "header with units by spaces": (".txt", lambda: table("{z!r} {x!r} {y!r}", "Z [m] X(m) Y(m)")),
    "header in a comment": (".xyz", lambda: table("{i} {x!r} {y!r} {z!r}", "# id X Y Z")),
    "header of ROS": (
        ".csv",
        lambda: table("16000000{i},{i},{x!r},{y!r},{z!r}", "%time,field.header.seq,field.x,field.y,field.z"),
    ),
    "header of ParaView": (
        ".csv",
        lambda: table("{i},{x!r},{y!r},{z!r}", '"Normals:0","Points:0","Points:1","Points:2"'),
    ),
    "header of CloudCompare": (".asc", lambda: table("{x!r} {y!r} {z!r} 1 2 3", "//X Y Z R G B")),
    "header over a line of units": (".csv", lambda: table("{i},{x!r},{y!r},{z!r}", "id,x,y,z\n-,m,m,m")),
    "title before the header": (".txt", lambda: table("{z!r}\t{x!r}\t{y!r}", "Site 7, 2024\n\nHeight\tEast\tNorth")),
    "coordinates in capitals": (".csv", lambda: table("{i},{x!r},{y!r},{z!r}", "GPSTIME,X,Y,Z")),
    "point columns of a GIS": (".csv", lambda: table("{i},{x!r},{y!r},{z!r}", "FID,POINT_X,POINT_Y,POINT_Z")),
    "word in the first column": (".txt", lambda: table("A{i} {x!r} {y!r} {z!r}")),
    "time in the first column": (".txt", lambda: table("170000000{i}.25 {x!r} {y!r} {z!r}")),
    "date in the first column": (".csv", lambda: table("2024-05-0{i}T12:00:00Z,{x!r},{y!r},{z!r}")),
    "numbers far apart": (".txt", lambda: table("{i}0{i} {x!r} {y!r} {z!r} 0.5")),
    "decimal commas by semicolon": (".csv", lambda: german("{x!r};{y!r};{z!r}")),
    "decimal commas by tab": (".txt", lambda: german("{x!r}\t{y!r}\t{z!r}")),
    "decimal commas by space": (".xyz", lambda: german("{x!r}  {y!r} {z!r}")),
    "decimal commas with a header": (".csv", lambda: german("{i};{x!r};{y!r};{z!r}", "Nr.;Ost;Nord;Höhe")),
    "exponents of Fortran": (".xyz", fortran),
    "line ends of an old Mac": (".txt", lambda: table("{x!r} {y!r} {z!r}", end="\r")),
    "line ends of Windows": (".xyz", lambda: table("{x!r} {y!r} {z!r}", end="\r\n")),
    "UTF-16, little-endian": (".txt", lambda: b"\xff\xfe" + table("{x!r};{y!r};{z!r}").decode().encode("utf-16-le")),
    "UTF-16, big-endian": (".txt", lambda: b"\xfe\xff" + table("{x!r}\t{y!r}\t{z!r}").decode().encode("utf-16-be")),
    "UTF-8 with a mark": (".csv", lambda: b"\xef\xbb\xbf" + table("{z!r},{x!r},{y!r}", "Z,X,Y")),
    "words in quotes": (".csv", lambda: table('{x!r},{y!r},{z!r},"a tree, {i}"', "x,y,z,name")),
    "numbers in quotes": (".csv", lambda: table('"{x!r}","{y!r}","{z!r}"')),
    "comma and space": (".csv", lambda: table("{x!r}, {y!r}, {z!r}")),
    "tabs with empty fields": (".txt", lambda: table("{x!r}\t{y!r}\t{z!r}\t\t{i}")),
    "PTS without a count": (".pts", lambda: table("{x!r} {y!r} {z!r}")),
    "PTS with too high a count": (".pts", lambda: table("{x!r} {y!r} {z!r} 7", "9000")),
    "PTS with too low a count": (".pts", lambda: table("{x!r} {y!r} {z!r} 7", "2")),
    "text with a count": (".xyz", lambda: table("{x!r} {y!r} {z!r}", "4")),
}
"""Name -> suffix and maker."""
