"""What a viewer of /ws/live/ knows after the frames that it heard (see farm/hub.py), as web/live.js works it out."""

from __future__ import annotations

from typing import Any


def patched(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value) if isinstance(value, dict) else value
    return result


class Told:
    """``printers``: base and overlay of each in one, without ``v``; ``jobs``: every (id, status) in order."""

    def __init__(self) -> None:
        self.bases: dict[str, dict[str, Any]] = {}
        self.overlays: dict[str, dict[str, Any]] = {}
        self.ages: dict[str, float | None] = {}
        self.jobs: list[tuple[str, str]] = []

    @property
    def printers(self) -> dict[str, dict[str, Any]]:
        return {key: self._whole(key) for key in self.bases}

    def _whole(self, key: str) -> dict[str, Any]:
        base = {name: value for name, value in self.bases[key].items() if name != "v"}
        over = self.overlays.get(key, {})
        job = {**base["job"], **over.get("job", {})} if base.get("job") else None
        return {**base, **over, "job": job}

    def hear(self, frame: dict[str, Any]) -> list[str]:
        """Take one frame in; the printers of which a frame is missing, if it tells."""
        kind, printers = frame["type"], frame.get("printers", {})
        if kind == "snapshot":
            self._snapshot(frame)
        elif kind == "changes":
            for key, patch in printers.items():
                self.bases[key] = patched(self.bases[key], patch)
            for key in frame.get("gone", ()):
                del self.bases[key]
                self.overlays.pop(key, None)
        elif kind == "overlay":
            self.overlays |= {key: over or {} for key, over in printers.items()}
        elif kind == "jobs":
            self.jobs += frame["jobs"].items()
        else:
            assert kind == "versions", frame
            self.ages |= {key: said[3] for key, said in printers.items()}
            return [key for key, said in printers.items() if self.bases[key].get("v") != said[:3]]
        return []

    def _snapshot(self, frame: dict[str, Any]) -> None:
        if frame["all"]:
            self.bases, self.overlays = {}, {}
        self.bases |= frame["printers"]
        for key in frame["printers"]:
            self.overlays.pop(key, None)
