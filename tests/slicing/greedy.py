"""A reader of files that goes wrong as it is told to, to be run as slicing.sandbox runs readers."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time


def report() -> None:
    """Its limits and everything it knows of the world it was started in."""
    names = {"memory": resource.RLIMIT_AS, "file": resource.RLIMIT_FSIZE, "cpu": resource.RLIMIT_CPU}
    limits = {name: resource.getrlimit(limit)[0] for name, limit in names.items()}
    core = resource.getrlimit(resource.RLIMIT_CORE)[1]
    sys.stdout.write(json.dumps({**limits, "core": core, "environment": sorted(os.environ)}) + "\n")


def grow() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def spin() -> None:
    while True:
        pass


def wait() -> None:
    while True:
        time.sleep(3600)


def write() -> None:
    with tempfile.TemporaryFile() as file:
        while True:
            file.write(bytes(1 << 20))


def die() -> None:
    os.abort()


def babble() -> None:
    sys.stdout.write("<html>")


def complain() -> None:
    sys.stdout.write(json.dumps({"error": "This is not a file that anybody reads."}) + "\n")


def falter() -> None:
    """The facts are out, and then it crashes."""
    sys.stdout.write(json.dumps({"triangles": 12}) + "\n")
    sys.stdout.flush()
    die()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
