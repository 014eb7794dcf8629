"""Where a mixed stream stands, as JSON-able values: of which mixture, and where each source and each lane are.

Pure; a position is of the next batch that was not yet handed out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssrnn_data.errors import data_error
from ssrnn_data.mixture.lanes import NONE, LanePlan, LaneState
from ssrnn_data.mixture.shares import Knots, targets_since

VERSION = 1
_Count = Annotated[int, Field(ge=0, lt=1 << 62)]
_CountOrNone = Annotated[int, Field(ge=NONE, lt=1 << 62)]
_Pair = Annotated[list[_Count], Field(min_length=2, max_length=2)]


@dataclass(frozen=True)
class MixtureIdentity:
    """What must be the same for a position to fit; corpora are fingerprints, in the order of the sources."""

    split: str
    seed: int
    lanes: int
    sequence_length: int
    segment_windows: int
    corpora: tuple[str, ...]
    weights: tuple[Knots, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, lists in the place of tuples."""
        weights = [[list(knot) for knot in knots] for knots in self.weights]
        return {"version": VERSION, **vars(self), "corpora": list(self.corpora), "weights": weights}


class _Saved(BaseModel):
    """A position's form: MixtureIdentity and LaneState, with lists only, so that JSON gives it back unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    split: str
    seed: int
    lanes: int
    sequence_length: int
    segment_windows: int
    corpora: list[str]
    weights: list[list[list[int | float]]]
    tokens_seen: _Count
    weights_since_tokens: _Count
    windows_since: list[_Count]
    epochs: list[_Count]
    next_windows: list[_Count]
    left: list[list[_Pair]]
    lane_sources: list[_CountOrNone]
    lane_epochs: list[_Count]
    lane_windows: list[_CountOrNone]

    def to_state(self) -> LaneState:
        return LaneState(
            at=self.tokens_seen // self.sequence_length,
            since=self.weights_since_tokens // self.sequence_length,
            given_S=np.array(self.windows_since, np.int64),
            epochs_S=self.epochs,
            next_S=self.next_windows,
            left_S=[[(epoch, window) for epoch, window in left] for left in self.left],
            sources_L=np.array(self.lane_sources, np.int64),
            epochs_L=np.array(self.lane_epochs, np.int64),
            windows_L=np.array(self.lane_windows, np.int64),
        )


def to_position(identity: MixtureIdentity, state: LaneState) -> dict[str, Any]:
    """A state as JSON-able values; some 15 bytes a lane."""
    return identity.to_dict() | {
        "tokens_seen": state.at * identity.sequence_length,
        "weights_since_tokens": state.since * identity.sequence_length,
        "windows_since": state.given_S.tolist(),
        "epochs": list(state.epochs_S),
        "next_windows": list(state.next_S),
        "left": [[list(rest) for rest in left] for left in state.left_S],
        "lane_sources": state.sources_L.tolist(),
        "lane_epochs": state.epochs_L.tolist(),
        "lane_windows": state.windows_L.tolist(),
    }


def from_position(
    saved: Mapping[str, Any], identity: MixtureIdentity, plan: LanePlan, *, allow_new_weights: bool = False
) -> LaneState:
    """The state that a position holds. With other weights than it was saved with, their counts start from here.

    Raises DataError naming the first thing in which the saved mixture differs, or that is no position at all.
    """
    try:
        found = _Saved.model_validate(dict(saved) if isinstance(saved, Mapping) else saved)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or str(saved)[:80]
        raise data_error("position", f"{field}: {first['msg']}", "a position() of a MixtureStream is allowed") from None
    own = identity.to_dict()
    weights = own.pop("weights")
    for name, value in own.items():
        if getattr(found, name) != value:
            came = f"it is of {name} {getattr(found, name)!r}"
            raise data_error("position", came, f"this mixture's {name} is {value!r}, and it must be the same")
    has_new_weights = found.weights != weights
    if has_new_weights and not allow_new_weights:
        allowed = f"this mixture's weights are {weights!r}; allow_new_weights=True counts by them from here on"
        raise data_error("position", f"it is of weights {found.weights!r}", allowed)
    if not _is_whole(found, len(own["corpora"])) or not _fits(found.to_state(), plan, has_new_weights):
        raise data_error("position", "its counts don't fit together", "an unchanged position() is allowed")
    state = found.to_state()
    return replace(state, since=state.at, given_S=np.zeros_like(state.given_S)) if has_new_weights else state


def _is_whole(found: _Saved, sources: int) -> bool:
    """Has it an entry for every source and lane, and whole steps of tokens?"""
    by_source = (found.windows_since, found.epochs, found.next_windows, found.left)
    by_lane = (found.lane_sources, found.lane_epochs, found.lane_windows)
    lowest, step_tokens = 0 if found.tokens_seen else NONE, found.lanes * found.sequence_length
    return (
        all(len(each) == sources for each in by_source)
        and all(len(each) == found.lanes for each in by_lane)
        and all(lowest <= source < sources for source in found.lane_sources)
        and found.tokens_seen % step_tokens == found.weights_since_tokens % step_tokens == 0
    )


def _fits(state: LaneState, plan: LanePlan, has_new_weights: bool) -> bool:
    """Could the plan have led here? Each segment that is under way once and begun, and the counts add up."""
    work = list(state.unfinished())
    for source, epoch, window in work:
        is_under_way = window < plan.epoch_windows_S[source] and window % plan.segment_windows != 0
        if not is_under_way or (epoch, window) >= (state.epochs_S[source], state.next_S[source]):
            return False
    segments = {(source, epoch, window // plan.segment_windows) for source, epoch, window in work}
    read_S = np.array(plan.windows_read(state))
    counts_fit = bool((read_S >= state.given_S).all()) and read_S.sum() == state.at
    since_fit = state.given_S.sum() == state.at - state.since
    errors_S = state.given_S - targets_since(plan.shares, state.since, np.array([state.at]))[:, 0]
    is_near = has_new_weights or bool((np.abs(errors_S) < 1).all())
    return len(segments) == len(work) and counts_fit and since_fit and is_near
