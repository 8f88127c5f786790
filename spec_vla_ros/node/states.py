"""Where the observe-act cycle can stand, and what moves it on."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where the cycle stands."""

    STOPPED = "stopped"  # not started, told to stop, or a fault is latched
    LOOKING = "looking"  # stands still; a usable image and an instruction start an inference
    THINKING = "thinking"  # the worker has a request, whose answer will be acted on
    OUTDATED = "outdated"  # the worker has a request of an instruction that is history
    ABANDONED = "abandoned"  # the worker has a request of an earlier run, whose faults are over
    MOVING = "moving"  # from the action until the first zero after its step, or after it was broken off
    AHEAD = "thinking ahead"  # moving, and the worker has a request for the step that follows
    OUTDATED_AHEAD = "outdated ahead"  # the step was broken off, and the worker's request with it
    FOLLOWED = "followed"  # moving, and the step that follows is decided


class Event(Enum):
    """What moves it on."""

    START_FREE = "activated, the worker is free"
    START_BUSY = "activated, the worker still has a request"
    STOP = "deactivated, or a fault"
    INSTRUCT = "the instruction has changed"
    REQUEST = "a request was given to the worker"
    ACTION = "the worker's answer is an action"
    NOTHING = "the worker has answered, and there is nothing to act on"
    STANDSTILL = "the safety loop has sent the first zero after the step"
    NEXT = "the safety loop has looked at the step that follows"


UNDER_WAY = (State.MOVING, State.AHEAD, State.OUTDATED_AHEAD, State.FOLLOWED)  # a step is, or is about to be
S, E = State, Event
# From each state, by each event that can happen in it, to the next. docs/architecture.md shows it; a test compares.
TRANSITIONS: dict[State, dict[Event, State]] = {
    S.STOPPED: {E.INSTRUCT: S.STOPPED, E.NOTHING: S.STOPPED},
    S.LOOKING: {E.INSTRUCT: S.LOOKING, E.REQUEST: S.THINKING},
    S.THINKING: {E.INSTRUCT: S.OUTDATED, E.ACTION: S.MOVING, E.NOTHING: S.LOOKING},
    S.OUTDATED: {E.INSTRUCT: S.OUTDATED, E.NOTHING: S.LOOKING},
    S.ABANDONED: {E.INSTRUCT: S.ABANDONED, E.NOTHING: S.LOOKING},
    S.MOVING: {E.INSTRUCT: S.MOVING, E.STANDSTILL: S.LOOKING, E.REQUEST: S.AHEAD},
    S.AHEAD: {
        E.INSTRUCT: S.OUTDATED_AHEAD,
        E.ACTION: S.FOLLOWED,
        E.NOTHING: S.MOVING,
        E.STANDSTILL: S.THINKING,
    },
    S.OUTDATED_AHEAD: {E.INSTRUCT: S.OUTDATED_AHEAD, E.NOTHING: S.MOVING, E.STANDSTILL: S.OUTDATED},
    S.FOLLOWED: {E.INSTRUCT: S.MOVING, E.NEXT: S.MOVING},
}
for _state in State:
    TRANSITIONS[_state] |= {E.START_FREE: S.LOOKING, E.START_BUSY: S.ABANDONED, E.STOP: S.STOPPED}
