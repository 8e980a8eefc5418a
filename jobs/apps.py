from typing import Any

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Listen to the room below, and answer its questions."""
        from jobs import attempts, services
        from printers import signals

        def follow(sender: Any, states: Any, occupied: Any, **_: Any) -> None:
            attempts.follow(states, occupied)

        def start_ended(sender: Any, command: Any, **_: Any) -> None:
            attempts.start_ended(command)

        signals.printer_states_changed.connect(follow, weak=False, dispatch_uid="jobs")
        signals.start_ended.connect(start_ended, weak=False, dispatch_uid="jobs")
        signals.occupants.answer = services.occupants
        signals.upcoming.answer = services.upcoming
