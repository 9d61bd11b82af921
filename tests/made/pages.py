"""What a page holds to be looked into."""

import json
import re


def scenes_in(page):
    """Return the packed scenes of a page, by name."""
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    return {scene["name"]: scene for scene in map(json.loads, found)}


def areas_ml(scene):
    """Return the volume of each area of a scene, by its name."""
    return {area["name"]: area["ml"] for layer in scene["layers"] for area in layer.get("areas", ())}


def said_by(page):
    """Return a page without what its scripts hold."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
