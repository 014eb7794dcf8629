"""The phases of a worker's time as people read them, each with its colour. Imports the phases only."""

from ssrnn_dist.tracking.phases import CHECKPOINTING, DATA_WAIT, IDLE, LOST, PHASES, START_UP, TRAINING, VALIDATION

# Okabe and Ito's colours, which colour-blind readers tell apart, darker where they would be too pale.
WORDS_AND_COLOURS = {
    TRAINING: ("training", "#0072B2"),
    VALIDATION: ("validation", "#56B4E9"),
    CHECKPOINTING: ("checkpoints", "#00795B"),
    DATA_WAIT: ("waiting for data", "#E69F00"),
    START_UP: ("start-up", "#CC79A7"),
    LOST: ("repeated steps", "#D55E00"),
    IDLE: ("idle", "#9aa5b1"),
}
assert WORDS_AND_COLOURS.keys() == set(PHASES)


def word(phase: str) -> str:
    return WORDS_AND_COLOURS[phase][0]


def colour(phase: str) -> str:
    return WORDS_AND_COLOURS[phase][1]
