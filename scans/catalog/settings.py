"""Settings that refuse what they do not know, settings by dotted names, and intervals."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

_MOST_TOLD = 12  # mistakes in one line


class Strict(BaseModel):
    """Settings that refuse unknown names and cannot be changed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"[{interval[0]}, {interval[1]}] must have its lower end first")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in settings.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def one_line(error: ValidationError) -> str:
    """Say in one line what a validation found, as ``where: what; where: what``; of very many the first."""
    found = error.errors(include_url=False)
    said = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" if item["loc"] else item["msg"] for item in found]
    more = [f"and {len(said) - _MOST_TOLD} more"] if len(said) > _MOST_TOLD else []
    return "; ".join([*said[:_MOST_TOLD], *more])
