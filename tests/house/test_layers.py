"""The floor plan: a room imports only what stands below it, no circle of files, no room too full to be looked over."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAINED = "settings architectures data network run cases proxies"
ROOMS = {  # a room: the rooms of its half that it may import
    "scans": {
        "csv_text": "",
        "errors": "",
        "file_names": "",
        "release": "",
        "markdown": "",
        "memory": "",
        "one_scan": "errors",
        "writing": "errors",
        "yaml_text": "errors",
        "durable": "errors writing",
        "terminal": "errors release writing",
        "hub": "durable errors release",
        "durations": "",
        "progress": "terminal",
        "catalog": "errors file_names formats markdown yaml_text",
        "formats": "csv_text durable errors file_names one_scan writing",
        "image": "catalog durable errors file_names formats one_scan writing",
        "page": "durable errors image",
    },
    "synth": {
        "cluster": "",
        "tasks": "",
        "store": "",
        "tumour": "",
        "generators": "tumour",
        "compound": "generators tumour",
        "corpus": "generators store tumour",
        "sources": "cluster store tasks tumour",
        "generate": "cluster corpus generators sources store tasks tumour",
        "report": "cluster corpus generators sources store tasks tumour",
        "compare": "cluster corpus generators report sources store tasks tumour",
        "convert": "cluster corpus generate generators report sources store tasks tumour",
        "share": "cluster corpus generate generators report sources store tasks tumour",
        "cli": "cluster compare convert corpus generate generators report share sources store tasks tumour",
    },
    "train": {
        "settings": "",
        "presets": "settings",
        "architectures": "settings",
        "data": "settings",
        "network": "settings architectures data",
        "run": "settings architectures data network",
        "cases": "settings data network",
        "proxies": "settings architectures data network run cases",
        "inference": TRAINED,
        "segmentation": f"{TRAINED} inference",
        "evaluation": f"{TRAINED} inference segmentation",
        "stages": f"{TRAINED} inference segmentation evaluation",
        "share": f"{TRAINED} inference segmentation evaluation",
        "tables": f"{TRAINED} presets inference segmentation evaluation stages share",
        "cli": f"{TRAINED} presets inference segmentation evaluation stages share tables",
    },
}
ELSEWHERE = {"scans": (), "synth": ("scans",), "train": ("scans", "synth.corpus")}  # halves, and rooms by their face


def imports():
    """Yield each import statement of the tree: the file, and what of the tree it imports; lazy and type-only too."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for half in ROOMS
        for path in sorted((ROOT / half).rglob("*.py"))
    }
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names if alias.name.split(".")[0] in ROOMS)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports by dots"
                for module in {f"{node.module}.{alias.name}" for alias in node.names}:
                    if module.split(".")[0] in ROOMS:
                        yield name, module if module in files else node.module


def room_of(module):
    return tuple(module.split(".")[:2])


def test_a_room_imports_only_what_stands_below_it():
    for name, module in imports():
        (half, *room), (other, *below) = room_of(name), room_of(module)
        if room and (half, room) != (other, below) and other == half:
            assert below, f"{name} imports {module}"
            assert below[0] in ROOMS[half][room[0]].split(), f"{name} imports {module}"
        elif other != half:
            allowed = ELSEWHERE[half]
            assert other in allowed or module in allowed, f"{name} imports {module}"


def test_no_files_and_no_rooms_import_each_other_in_a_circle():
    files, rooms = defaultdict(set), defaultdict(set)
    for name, module in imports():
        if name != module:
            files[name].add(module)
        if room_of(name) != room_of(module):
            rooms[room_of(name)].add(room_of(module))
    for graph in (files, rooms, *({room: may.split() for room, may in half.items()} for half in ROOMS.values())):
        TopologicalSorter(graph).prepare()  # raises and names the circle, if there is one


def test_every_room_is_on_the_plan_and_has_five_to_thirteen_modules():
    for half, rooms in ROOMS.items():
        there = {path for path in (ROOT / half).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert {path.stem for path in there} - {"__init__"} == rooms.keys()
        for room in filter(Path.is_dir, there):
            count = len({path.name for path in room.glob("*.py")} - {"__init__.py"})
            assert 5 <= count <= 13, f"{half}/{room.name} has {count} modules"


def test_every_room_is_on_the_map_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [f"`{half}/{room}/`" for half in ROOMS for room in ROOMS[half] if (ROOT / half / room).is_dir()]
    assert [room for room in rooms if room not in readme] == []
