#!/usr/bin/env python
"""Every command of the farm. ``--data-dir D`` (before or after the command) equals FARM_DATA_DIR=D."""

import os
import sys


def take_data_dir(argv: list[str]) -> list[str]:
    """``argv`` without --data-dir, which is put into the environment before any setting is read."""
    rest, words = [], iter(argv)
    for word in words:
        if word == "--data-dir":
            value = next(words, None)
            if value is None:
                sys.exit("--data-dir needs a folder.")
            os.environ["FARM_DATA_DIR"] = os.path.abspath(value)
        elif word.startswith("--data-dir="):
            os.environ["FARM_DATA_DIR"] = os.path.abspath(word.partition("=")[2])
        else:
            rest.append(word)
    return rest


def main() -> None:
    argv = take_data_dir(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "farm.settings")
    if argv[1:2] == ["up"]:  # a thin supervisor: no Django in it
        from farm.management.commands.up import main as up

        sys.exit(up(argv[2:]))
    from django.core.management import execute_from_command_line

    execute_from_command_line(argv)


if __name__ == "__main__":
    main()
