"""What the columns of survey text files are called, in the languages of Europe: lower case, without accents, best first."""

PLAIN_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "ß": "ss"})
"""Letters that are no letter with an accent -> how the words below write them."""

EAST = (
    *("easting", "eastings", "east", "e", "rechtswert", "ostwert", "ost", "rw", "este", "est", "oost"),
    *("ostlig", "ostkoordinat", "ita", "itakoordinaatti", "wschod", "wschodnia", "vychod", "vzhod", "istok", "восток"),
)
NORTH = (
    *("northing", "northings", "north", "n", "hochwert", "nordwert", "nord", "hw", "norte", "noord", "norr", "nordlig"),
    *("nordkoordinat", "pohjoinen", "pohjoiskoordinaatti", "polnoc", "polnocna", "sever", "sjever", "север"),
)
HEIGHT = (
    *("elevation", "elev", "height", "hoehe", "hohe", "h", "altitude", "alt", "cota", "quota", "altura", "hoogte"),
    *("hoyde", "hojde", "hojd", "kote", "korkeus", "wysokosc", "rzedna", "vyska", "nadmorska vyska", "visina", "kota"),
    *("nadmorska visina", "высота", "отметка", "depth", "tiefe"),
)
LONGITUDE = (
    *("longitude", "long", "lon", "lng", "langengrad", "longitud", "longitudine", "laengdegrad", "lengdegrad"),
    *("pituusaste", "dlugosc", "dlugosc geograficzna", "zemepisna delka", "долгота"),
)
LATITUDE = (
    *("latitude", "lat", "breitengrad", "latitud", "latitudine", "breddegrad", "leveysaste"),
    *("szerokosc", "szerokosc geograficzna", "zemepisna sirka", "широта"),
)
POINT_NUMBER = {
    *("number", "no", "nr", "id", "name", "pt", "pnt", "ptno", "pointid", "pointno", "nummer", "numero", "punto"),
    *("punkt", "punktnummer", "punktnr", "punktid", "punkt nr", "punkt id", "piste", "pistenumero", "pisteen numero"),
    *("numer", "pkt", "nr punktu", "nr pkt", "numer punktu", "numer pkt", "cislo", "cislo bodu", "c bodu", "bod"),
    *("stevilka", "stevilka tocke", "broj", "broj tocke", "tocka", "номер", "номер точки", "точка"),
}
UNSPECIFIC = {
    *("point", "points", "field", "pose", "position", "pos", "coord", "coords", "coordinate", "coordinates", "local"),
    *("cartesian", "utm", "global", "m", "meter", "meters", "metre", "metres", "mm", "cm", "ft", "feet", "deg"),
    *("koordinat", "koordinate", "koordinata", "koordinaatti", "wspolrzedna", "wsp", "souradnice", "suradnica"),
}
"""Words that stand beside the name of a coordinate and do not change what it is."""
